/** Owns the numbers of this host's users, as the system tells them. */

import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'

/** The number of a user, or null where the system knows none of that name. */
export async function userNumber(name: string): Promise<number | null> {
  if (/^[0-9]{1,9}$/.test(name)) return Number(name)
  const inFile = numberIn(await readFile('/etc/passwd', 'utf8').catch(() => ''), name)
  if (inFile !== null) return inFile
  // Users of a directory service are not in the file.
  return new Promise((resolve) => {
    execFile('getent', ['passwd', name], { timeout: 5000 }, (error, stdout) =>
      resolve(error === null ? numberIn(stdout, name) : null),
    )
  })
}

function numberIn(passwd: string, name: string): number | null {
  const line = passwd.split('\n').find((one) => one.startsWith(`${name}:`))
  const digits = line?.split(':')[2] ?? ''
  return /^[0-9]+$/.test(digits) ? Number(digits) : null
}
