/**
 * Runs h2spec (146 checks of RFC 9113 and RFC 7541) against our HTTP/2 framing. Needs Go, which
 * fetches and builds h2spec once. Asked for by name (`npm run conformance -- h2spec`), it fails where
 * it cannot run.
 */

import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { startH2specServer } from './h2spec-server.ts'

const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'hostmesh')
const tool = join(cache, 'go', 'bin', 'h2spec')

function install(): string {
  if (existsSync(tool)) return ''
  const env = { ...process.env, GOPATH: join(cache, 'go'), GOBIN: join(cache, 'go', 'bin') }
  const pack = 'github.com/summerwind/h2spec/cmd/h2spec@latest'
  const built = spawnSync('go', ['install', pack], { env, stdio: ['ignore', 'inherit', 'inherit'] })
  if (built.error !== undefined) return 'h2spec cannot run: Go is not installed'
  return built.status === 0 ? '' : 'h2spec cannot run: it could not be fetched and built'
}

const [suite = 'h2spec', ...filters] = process.argv.slice(2)
const problem = suite === 'h2spec' ? install() : `there is no suite ${suite}; there is h2spec`
if (problem !== '') {
  console.log(problem)
  process.exitCode = 1
} else {
  const server = await startH2specServer()
  const words = ['--host', '127.0.0.1', '--port', String(server.port), '--timeout', '2', '--strict']
  const child = spawn(tool, [...words, ...filters], { stdio: 'inherit' })
  process.exitCode = await new Promise<number>((resolve) => {
    child.on('close', (code) => resolve(code ?? 1))
  })
  await server.stop()
}
