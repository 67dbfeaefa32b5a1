/**
 * Owns the rules by which single checks make an instance healthy or not, and by which several checks
 * make one verdict. Pure; `checker.ts` and `pushed-check.ts` drive them.
 */

import type { CheckOutcome, HealthCheck } from '#shared/model/health-check.ts'
import type { PortName } from '#shared/model/names.ts'

/** What one check found. */
export interface CheckResult {
  readonly outcome: CheckOutcome
  /** What was seen, for people: `status 503`, `ECONNREFUSED`. */
  readonly detail: string
}

/** How a check or an instance fares. `starting` until the first results have agreed. */
export type HealthState = 'starting' | 'passing' | 'warning' | 'failing'

/** What is known by one check. */
export interface HealthStatus {
  readonly state: HealthState
  /** What the last check saw. */
  readonly detail: string
  /** Results in a row that speak against the state; while starting, that agree with each other. */
  readonly streak: number
  /** What the last check found; null before the first. */
  readonly last: CheckOutcome | null
}

/** Before the first check. */
export function unchecked({ initial }: Pick<HealthCheck, 'initial'>): HealthStatus {
  const state = initial === 'passing' ? 'passing' : 'starting'
  return { state, detail: 'not checked yet', streak: 0, last: null }
}

const stateOf = { pass: 'passing', warn: 'warning', fail: 'failing' } as const

/** Whether an instance in this state may be called. */
export function isUp(state: HealthState): boolean {
  return state === 'passing' || state === 'warning'
}

/** The status after one more check. */
export function afterCheck(
  { state, last, streak: before }: HealthStatus,
  { outcome, detail }: CheckResult,
  { rise, fall }: Pick<HealthCheck, 'rise' | 'fall'>,
): HealthStatus {
  const target = stateOf[outcome]
  if (state === target) return { state, detail, streak: 0, last: outcome }
  // On the way up, a warning is as good as a pass: either says that the instance is there. On the way
  // down from passing it is as bad as a fail: whoever does both in turn does not pass.
  const agrees =
    last !== null &&
    (last === outcome ||
      (!isUp(state) && isUp(target) && isUp(stateOf[last])) ||
      (state === 'passing' && last !== 'pass'))
  const streak = (agrees ? before : 0) + 1
  const needed = target === 'passing' || (target === 'warning' && !isUp(state)) ? rise : fall
  return streak >= needed
    ? { state: target, detail, streak: 0, last: outcome }
    : { state, detail, streak, last: outcome }
}

/** One check of several, by name. */
export interface NamedStatus {
  readonly name: string
  readonly state: HealthState
  readonly detail: string
  /** The named port it decides about alone; absent where it counts for the whole instance. */
  readonly portName?: PortName
}

/** What all checks of an instance say together. */
export interface InstanceHealth {
  readonly state: HealthState
  /** What is seen by the check that decides. */
  readonly detail: string
  readonly checks: readonly NamedStatus[]
}

/** The worst first: one that fails settles it, whatever the others have yet to find. */
const byGravity = ['failing', 'starting', 'warning', 'passing'] as const

/**
 * The verdict of several checks: the worst of those that count for the whole instance, at least one. It
 * is out until every check has found something, so that an instance comes with all of its ports.
 */
export function together(checks: readonly NamedStatus[]): InstanceHealth {
  const whole = checks.filter(
    ({ portName, state }) => portName === undefined || state === 'starting',
  )
  const state =
    byGravity.find((one) => whole.some((check) => check.state === one)) ?? ('starting' as const)
  const decisive = whole.find((check) => check.state === state)
  const { name = '', detail = '' } = decisive ?? {}
  return { state, detail: checks.length > 1 ? `${name}: ${detail}` : detail, checks }
}

/** What the checks that are about a named port alone say; `passing` where there are none. */
export function stateOfPort({ checks }: InstanceHealth, portName: PortName): HealthState {
  const mine = checks.filter((check) => check.portName === portName)
  return byGravity.find((one) => mine.some(({ state }) => state === one)) ?? 'passing'
}
