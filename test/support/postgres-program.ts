/**
 * Owns PostgreSQL as a program of a test: a cluster of its own, run by Debian's user for it, that
 * trusts whoever comes from one address. Answers the words that start it. Root only.
 */

import { execFileSync } from 'node:child_process'
import { chownSync, globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Debian's user for the server. */
export const postgresUser = 'postgres'

/** Where Debian keeps the server's programs, which are in nobody's PATH; null where there are none. */
export function postgresPrograms(): string | null {
  return globSync('/usr/lib/postgresql/*/bin').toSorted().at(-1) ?? null
}

/** Makes a cluster that is gone after the test. */
export function preparePostgres(
  t: { teardown(run: () => void): unknown },
  settings: { readonly port: number; readonly trusts: string },
): readonly [string, ...string[]] {
  const programs = postgresPrograms() ?? ''
  const directory = mkdtempSync(join(tmpdir(), 'hostmesh-postgres-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }))
  const id = (flag: string): number =>
    Number(execFileSync('id', [flag, postgresUser], { encoding: 'utf8' }))
  chownSync(directory, id('-u'), id('-g'))
  const as = ['setpriv', `--reuid=${postgresUser}`, `--regid=${postgresUser}`, '--clear-groups']
  const data = join(directory, 'data')
  execFileSync('setpriv', [...as.slice(1), join(programs, 'initdb'), '--no-sync', '-D', data], {
    stdio: ['ignore', 'ignore', 'pipe'],
    cwd: '/',
  })
  writeFileSync(join(data, 'pg_hba.conf'), `host all all ${settings.trusts}/32 trust\n`)
  const set = [
    'fsync=off',
    'listen_addresses=127.0.0.1',
    `port=${settings.port}`,
    `unix_socket_directories=${directory}`,
  ].flatMap((one) => ['-c', one])
  return ['setpriv', ...as.slice(1), join(programs, 'postgres'), '-D', data, ...set]
}
