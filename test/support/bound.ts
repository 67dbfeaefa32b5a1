/** Owns programs that end with the test that started them, even when that is killed. */

import { existsSync } from 'node:fs'

const setpriv = '/usr/bin/setpriv'

/** The command that runs a program so; its process id is the program's. */
export function bound(
  program: string,
  words: readonly string[],
  signal: 'TERM' | 'KILL' = 'KILL',
): [string, string[]] {
  return existsSync(setpriv)
    ? [setpriv, ['--pdeathsig', signal, program, ...words]]
    : [program, [...words]]
}
