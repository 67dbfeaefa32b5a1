/**
 * Owns the rules by which single checks make an instance healthy or not. Pure; `checker.ts` drives
 * them.
 */

import type { HealthCheck } from '#shared/model/manifest.ts'

/** What one check found. */
export interface CheckResult {
  readonly pass: boolean
  /** What was seen, for people: `status 503`, `ECONNREFUSED`. */
  readonly detail: string
}

/** What is known of an instance. `starting` until the first checks have agreed. */
export interface HealthStatus {
  readonly state: 'starting' | 'passing' | 'failing'
  /** What the last check saw. */
  readonly detail: string
  /** Results in a row that speak against the state; while starting, that agree with each other. */
  readonly streak: number
  /** Whether the last check passed. */
  readonly lastPass: boolean
}

/** Before the first check. */
export const unchecked: HealthStatus = {
  state: 'starting',
  detail: 'not checked yet',
  streak: 0,
  lastPass: false,
}

/** The status after one more check. */
export function afterCheck(
  status: HealthStatus,
  result: CheckResult,
  { rise, fall }: Pick<HealthCheck, 'rise' | 'fall'>,
): HealthStatus {
  const { pass, detail } = result
  const target = pass ? 'passing' : 'failing'
  if (status.state === target) return { state: target, detail, streak: 0, lastPass: pass }
  const streak = (status.lastPass === pass ? status.streak : 0) + 1
  const isEnough = streak >= (pass ? rise : fall)
  return isEnough
    ? { state: target, detail, streak: 0, lastPass: pass }
    : { state: status.state, detail, streak, lastPass: pass }
}
