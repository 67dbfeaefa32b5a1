/** Owns the exit codes of the agent's programs, after sysexits.h. */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'

/** Failures of the world that belong to no retry, by what a person has to mend. */
const unavailable: ReadonlySet<string> = new Set([
  'agent-already-runs',
  'listen-failed',
  'tunnel-port',
  'worker-socket',
])
const configuration: ReadonlySet<string> = new Set(['directory', 'state-newer'])

/**
 * Codes by meaning. `usage` to `config` are of programs that could not start, and a supervisor need not
 * try again at a first start; it never tries again after `retired`.
 */
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
  /** A worker of a replaced generation has finished what it had. */
  retired: 79,
  /** The code of whatever ended a program. */
  of(error: unknown): number {
    if (!(error instanceof MeshError)) return exitCodes.failed
    if (unavailable.has(error.code)) return exitCodes.unavailable
    if (configuration.has(error.code)) return exitCodes.config
    return error.retry ? exitCodes.failed : exitCodes.refused
  },
} as const
