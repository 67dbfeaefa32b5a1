/** Owns the exit codes of the controller, after sysexits.h; where it can be they are the agent's. */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'

/** Somebody else has it. */
const unavailable: ReadonlySet<string> = new Set(['port-unavailable', 'store-locked'])
/** What stands on the disk has to be mended, or another program run; no start will find it otherwise. */
const configuration: ReadonlySet<string> = new Set([
  'backup-unusable',
  'ca-unusable',
  'state-damaged',
  'state-from-newer-version',
  'store-from-newer-version',
  'store-half-restored',
  'trust-domain-fixed',
])

/** Codes by meaning. */
export const exitCodes = {
  ok: 0,
  /** Something passing, or a bug; starting again may help. */
  failed: 1,
  usage: 64,
  /** A port or the state directory is taken. */
  unavailable: 69,
  config: 78,
  /** The code of whatever ended the program. */
  of(error: unknown): number {
    if (!(error instanceof MeshError)) return exitCodes.failed
    if (unavailable.has(error.code)) return exitCodes.unavailable
    return configuration.has(error.code) ? exitCodes.config : exitCodes.failed
  },
} as const
