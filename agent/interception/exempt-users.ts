/** Owns who is never captured: the numbers of the users that the operator excludes by name. */

import type { Logger } from '#shared/logging/logger.ts'
import { userNumber } from './users.ts'

/** Numbers of users; a name that this host does not have is told and left out. */
export async function exemptUserNumbers(
  names: readonly string[],
  logger: Logger,
): Promise<readonly number[]> {
  const users = await Promise.all(names.map((name) => userNumber(name)))
  for (const name of names.filter((_, n) => users[n] === null)) {
    logger.warn({ name }, 'captureExclude.users names a user this host does not have')
  }
  return users.filter((user) => user !== null)
}
