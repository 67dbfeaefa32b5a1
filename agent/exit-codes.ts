/** Owns the exit codes of the agent's programs, after sysexits.h; `docs/operations` lists them. */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'

/** Codes by meaning; a supervisor need not try again after the last four. */
export const exitCodes = {
  ok: 0,
  /** Something passing; starting again may help. */
  failed: 1,
  usage: 64,
  /** A port or socket is taken. */
  unavailable: 69,
  /** The controller refused this host: a bad token, a foreign CA. */
  refused: 77,
  config: 78,
  /** The code of whatever ended a program. */
  of(error: unknown): number {
    if (!(error instanceof MeshError)) return exitCodes.failed
    switch (error.code) {
      case 'listen-failed':
      case 'worker-socket':
        return exitCodes.unavailable
      default:
        return error.retry ? exitCodes.failed : exitCodes.refused
    }
  },
} as const
