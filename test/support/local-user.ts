/**
 * Owns programs that a local user of a host runs in tests, unmodified: as that user, in that host's
 * network, with the mesh's DNS as its resolver. Root only.
 */

import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { DemoHost } from '#cli/demo/demo-host.ts'

const run = promisify(execFile)
const patienceMs = 20_000
/** Debian's programs: a user may not enter what root has installed for itself. */
const environment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }

/** The command that runs as a user, given by number or name, with no right of root's left. */
export function userCommand(
  user: number | string,
  ...command: readonly string[]
): [string, ...string[]] {
  return ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups', ...command]
}

/** Runs a command on a host as a user; answers what it printed, or `failed <code>: <stderr>`. */
export async function asUser(
  host: DemoHost,
  user: number | string,
  ...command: readonly string[]
): Promise<string> {
  // A mount namespace of its own has a resolver file of its own.
  const bind = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
  const own = ['unshare', '--mount', 'sh', '-c', bind, resolverFile()]
  const [first = '', ...rest] = host.place.enter([...own, ...userCommand(user, ...command)])
  try {
    return (await run(first, rest, { timeout: patienceMs, env: environment })).stdout
  } catch (error) {
    const { code, stderr = '' } = error as { readonly code?: number; readonly stderr?: string }
    return `failed ${code}: ${stderr.trim()}`
  }
}

/** `asUser` for curl, with a limit. */
export function curlAs(host: DemoHost, user: number | string, url: string): Promise<string> {
  return asUser(host, user, 'curl', '-sS', '--http0.9', '--globoff', '--max-time', '10', url)
}

let directory = ''

function resolverFile(): string {
  if (directory === '') {
    directory = mkdtempSync(join(tmpdir(), 'hostmesh-resolver-'))
    process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
    // Readable for every user: there is nothing secret in it.
    writeFileSync(join(directory, 'resolv.conf'), 'nameserver 127.0.0.1\n', { mode: 0o644 })
  }
  return join(directory, 'resolv.conf')
}
