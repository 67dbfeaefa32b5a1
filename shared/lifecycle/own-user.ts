/**
 * Owns the question which user this process acts as, by number. Asking the user database would fail for
 * users that are not in it, as in containers.
 */

import { readFileSync } from 'node:fs'

/** The effective user; see proc_pid_status(5). */
export function ownUser(): number {
  const status = readFileSync('/proc/self/status', 'latin1')
  return Number(/^Uid:\t\d+\t(\d+)/m.exec(status)?.[1])
}
