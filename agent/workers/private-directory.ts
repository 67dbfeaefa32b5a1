/** Owns the directory of the workers' socket: that nobody else can reach into it. */

import { chmodSync, existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'

/** Keys pass over the socket: nobody else may reach it, not even before its own mode is set. */
export function makePrivate(socketPath: string): void {
  const directory = dirname(socketPath)
  try {
    if (!existsSync(directory)) mkdirSync(directory, { mode: 0o700 })
    chmodSync(directory, 0o700)
  } catch (cause) {
    throw new MeshError(`cannot open the worker socket ${socketPath}: ${messageOf(cause)}`, {
      code: 'worker-socket',
      hint: 'check that the run directory exists and belongs to the agent’s user',
      cause,
    })
  }
}
