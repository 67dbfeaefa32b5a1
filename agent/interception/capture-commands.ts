/**
 * Owns the commands by which operators switch capture off and on, and take one service out of it for
 * a time. What they wish is checked here and kept by `lifts.ts`.
 */

import type { BypassWish, CaptureWish } from '#shared/model/admin-wishes.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { parseServiceName, type ServiceName } from '#shared/model/names.ts'
import type { CaptureStatus } from './capture-state.ts'
import type { CaptureLifts } from './lifts.ts'

/** What the commands lean on. */
export interface CaptureCommandParts {
  readonly clock: Pick<Clock, 'now'>
  readonly lifts: Pick<CaptureLifts, 'setWhole' | 'bypass' | 'end'>
  readonly interception: {
    readonly status: CaptureStatus
    /** Resolves when what is wished for now stands, or cannot. */
    settled(): Promise<void>
  }
  /** Whether the mesh knows a service, or this host serves it. */
  readonly isKnown: (service: ServiceName) => boolean
}

/** What became of a wish. */
export type CaptureAnswer =
  | { readonly kind: 'done'; readonly value: CaptureStatus }
  | {
      readonly kind: 'refused'
      readonly code: string
      readonly problem: string
      readonly hint: string
    }

const longestReason = 256
/** A bypass that is forgotten must end by itself. */
const longestBypassMs = 24 * 3_600_000

/** Carries out a `CaptureWish` as it was posted. */
export async function setCapture(
  { lifts, interception }: CaptureCommandParts,
  input: unknown,
): Promise<CaptureAnswer> {
  if (!isCaptureWish(input)) return badInput('{"wish": "on" | "off", "reason", "by"}')
  const by = input.by.slice(0, longestReason)
  const reason = input.reason.slice(0, longestReason)
  const { status } = interception
  if (status.kind === 'off') {
    const hint = 'see "meshctl check" under capture, and set "capture" in the agent’s config'
    return { kind: 'refused', code: 'capture-off', problem: status.reason, hint }
  }
  if (input.wish === 'off' && reason === '') return noReason
  await lifts.setWhole(input.wish === 'off' ? { reason, by } : null, by)
  await interception.settled()
  return { kind: 'done', value: interception.status }
}

/** Carries out a `BypassWish` as it was posted. */
export async function setBypass(
  { lifts, interception, isKnown, clock }: CaptureCommandParts,
  input: unknown,
): Promise<CaptureAnswer> {
  if (!isBypassWish(input)) return badInput('{"service", "forMs", "reason", "by"}')
  const service = parseServiceName(input.service)
  const name = JSON.stringify(input.service.slice(0, 100))
  if (!service.ok) return refused('bad-input', service.problem, '')
  const by = input.by.slice(0, longestReason)
  const reason = input.reason.slice(0, longestReason)
  if (input.forMs === 0) {
    if (!(await lifts.end(service.value, by)))
      return refused('no-bypass', `${name} does not bypass the mesh`, 'meshctl capture status')
  } else {
    if (reason === '') return noReason
    if (input.forMs < 0 || input.forMs > longestBypassMs)
      return refused('bad-input', 'a bypass lasts a day at most', 'say --for 10m')
    if (!isKnown(service.value))
      return refused('unknown-service', `no host has a service ${name}`, 'meshctl services')
    if (!(await lifts.bypass(service.value, clock.now() + input.forMs, { reason, by })))
      return refused('too-many', 'too many services bypass the mesh', 'meshctl capture off')
  }
  await interception.settled()
  return { kind: 'done', value: interception.status }
}

const noReason = {
  kind: 'refused',
  code: 'no-reason',
  problem: 'whoever goes around the mesh says why',
  hint: 'add --reason "…"',
} as const

function badInput(expected: string): CaptureAnswer {
  return refused('bad-input', `expected ${expected}`, '')
}

function refused(code: string, problem: string, hint: string): CaptureAnswer {
  return { kind: 'refused', code, problem, hint }
}

function isCaptureWish(input: unknown): input is CaptureWish {
  if (typeof input !== 'object' || input === null) return false
  const { wish, reason, by } = input as Readonly<Record<string, unknown>>
  return (wish === 'on' || wish === 'off') && typeof reason === 'string' && typeof by === 'string'
}

function isBypassWish(input: unknown): input is BypassWish {
  if (typeof input !== 'object' || input === null) return false
  const { service, forMs, reason, by } = input as Readonly<Record<string, unknown>>
  return (
    typeof service === 'string' &&
    Number.isInteger(forMs) &&
    typeof reason === 'string' &&
    typeof by === 'string'
  )
}
