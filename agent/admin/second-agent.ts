/**
 * Owns the question whether another agent runs on a run directory: its admin socket tells. Whoever
 * would start beside it asks before anything else, or its workers would come to the other's hub.
 */

import { connect } from 'node:net'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'

/** Resolves where nobody answers on an admin socket. @throws MeshError `agent-already-runs` */
export async function refuseSecondAgent(socketPath: string): Promise<void> {
  if (!(await answers(socketPath))) return
  throw new MeshError(`another agent answers on ${socketPath}`, {
    code: 'agent-already-runs',
    hint: 'stop it first, or give this one another paths.run',
  })
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socketPath)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
}
