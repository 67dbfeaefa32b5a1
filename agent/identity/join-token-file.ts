/** Owns the reading of the file that an operator puts a join token into. It keeps none of it. */

import { readFileSync } from 'node:fs'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'

/** The token, or null while there is none. Rejects with MeshError `token-unreadable`. */
export async function readJoinToken(file: string | null): Promise<string | null> {
  if (file === null) return null
  try {
    return readFileSync(file, 'utf8').trim() || null
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new MeshError(`cannot read the join token ${file}: ${messageOf(error)}`, {
      code: 'token-unreadable',
      hint: 'the file must be readable by the agent’s user',
      cause: error,
    })
  }
}
