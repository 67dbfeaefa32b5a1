/**
 * Owns the demo's command line, signals and exit codes. The same file plays the small roles that run
 * beside the mesh: `load` (the clients) and `serve` (a service in a few lines).
 */

import { readFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { installPackages } from '#cli/debian.mjs'
import { findProgram } from '#cli/find-program.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { serveFiles, whoamiPath } from './instance.ts'
import { Load, type Target } from './load.ts'
import type { Machine } from './machine.ts'
import { Narrator } from './narrator.ts'
import { Story } from './story.ts'
import { World } from './world.ts'

const usage = `usage: npm run demo -- [--once] [--json] [--store embedded|etcd] [--keep]
  --once    tell the story, check it, clean up; exit 0 when it holds
  --json    print the result as JSON on standard output; implies --once
  --store   embedded (default), or a real etcd
  --keep    leave the files of the run where they are
`

const root = dirname(dirname(import.meta.dirname))
const role = (name: string): readonly [string, ...string[]] => [
  process.execPath,
  import.meta.filename,
  name,
]

const machine: Machine = {
  pid: process.pid,
  isRoot: process.getuid?.() === 0,
  node: process.execPath,
  environment: {
    PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/bin:/sbin:/bin`,
    LC_ALL: 'C.UTF-8',
    HOME: process.env['HOME'] ?? '/',
  },
  isAlive: (pid) => attempt(() => process.kill(pid, 0)),
  killGroup: (pid) => void attempt(() => process.kill(-pid, 'SIGKILL')),
}

function attempt(run: () => unknown): boolean {
  try {
    run()
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function playLoad(targets: readonly Target[]): Promise<void> {
  const load = new Load({ targets })
  const tell = (): void => void process.stdout.write(`${JSON.stringify(load.count)}\n`)
  const timer = setInterval(tell, 100)
  load.start()
  await new Promise((resolve) => process.once('SIGTERM', resolve))
  await load.stop()
  clearInterval(timer)
  tell()
}

/** Puts in place what the demo needs beside this checkout, where it may. */
function provide(store: 'embedded' | 'etcd', say: (line: string) => void): string {
  if (machine.isRoot && (findProgram('ip') === null || findProgram('nsenter') === null))
    installPackages(['iproute2', 'util-linux'], say)
  if (store === 'embedded' || findProgram('etcd') !== null) return ''
  return installPackages(['etcd-server'], say)
}

async function playDemo(): Promise<number> {
  const { values } = parseArgs({
    options: {
      once: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      store: { type: 'string', default: 'embedded' },
    },
  })
  const { store, json, keep } = values
  if (
    process.env['npm_config_once'] !== undefined ||
    process.env['npm_config_store'] !== undefined
  ) {
    process.stderr.write(`npm took an option for itself: put -- before it\n${usage}`)
    return 2
  }
  if (values.help || (store !== 'embedded' && store !== 'etcd')) {
    process.stderr.write(usage)
    return values.help ? 0 : 2
  }
  // With --json standard output holds the result and nothing else.
  const out = json ? process.stderr : process.stdout
  const paper = { write: (text: string) => void out.write(text), live: out.isTTY }
  const narrator = new Narrator({ paper, clock: systemClock })
  const say = (line: string): void => narrator.say(`   ${line}`)
  const problem = provide(store, say)
  if (problem !== '') throw new MeshError(problem, { code: 'demo-parts' })

  const world = new World({ machine, say }, { root, store, leafTtlSeconds: 20, keepFiles: keep })
  process.once('exit', () => world.kill())
  if (keep) say(`files: ${world.directory}`)
  const stopped = new Promise<'stopped'>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => resolve('stopped'))
  })
  const story = new Story({ world, narrator }, { store, role })
  const result = await Promise.race([story.tell(), stopped])
  if (result === 'stopped') {
    narrator.say('\nstopped; cleaning up')
    await world.stop()
    return 130
  }
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`)
  else
    narrator.say(result.ok ? '   everything held' : `   it did NOT hold: ${JSON.stringify(result)}`)
  if (!values.once && !json) {
    lookAround(world, narrator)
    await stopped
  }
  await narrator.step('cleaned up: processes, namespaces, files', () => world.stop())
  return result.ok ? 0 : 1
}

function lookAround(world: World, narrator: Narrator): void {
  const [alpha, beta] = world.hosts
  const at = (words: string): string => alpha.place.enter([words]).join(' ')
  narrator.chapter('Look around (another terminal, in this directory)')
  for (const host of [alpha, beta]) {
    narrator.say(`   npm run -s meshctl -- --socket ${host.path('run/agent.sock')} status`)
  }
  narrator.say(`   … services | check | manifest status   (same --socket)`)
  narrator.say(`   ${at(`curl http://${alpha.place.address}:15020/metrics`)}`)
  narrator.say(`   ${at(`curl http://${alpha.place.local}:9001${whoamiPath}`)}`)
  narrator.say(`   manifests: ${alpha.path('mesh.d')} and ${beta.path('mesh.d')}`)
  narrator.say(`   logs:      ${alpha.path('agent.log')}`)
  narrator.say('\nCtrl-C stops and removes everything.')
}

const [first = '', ...rest] = process.argv.slice(2)
process.stdout.on('error', () => {})
try {
  if (first === 'load') await playLoad(JSON.parse(rest[0] ?? '[]') as Target[])
  else if (first === 'serve') {
    const [address = '', port = '', files = ''] = rest
    serveFiles(address, Number(port), readFileSync(join(files, whoamiPath), 'utf8'))
  } else process.exit(await playDemo())
} catch (error) {
  const usageError = (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') === true
  writeSync(2, `demo: ${messageOf(error)}\n${usageError ? usage : ''}`)
  process.exit(usageError ? 2 : 1)
}
