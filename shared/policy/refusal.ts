/** Owns what policy says when it refuses a call: which rule, where it stands, and in words. Pure. */

import type { RuleRef } from '#shared/model/policy.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'

/** A refusal. */
export interface Refusal {
  readonly reason: Extract<Reason, 'policy-denied' | 'ambiguous-request'>
  readonly ref: RuleRef
  /** One sentence with rule, file and line. */
  readonly detail: string
}

/** `deny[0] (/etc/mesh/policies.d/a.json:4)`. */
export function describeRule({ rule, file, line }: RuleRef): string {
  return file === '' ? rule : `${rule} (${file}:${line})`
}

/** A rule denies. */
export function deniedBy(ref: RuleRef, source: SpiffeId | null, destination: SpiffeId): Refusal {
  const detail = `${describeRule(ref)} denies this to ${callerName(source)}, calling ${destination}`
  return Object.freeze({ reason: 'policy-denied', ref, detail })
}

/** No rule allows, and the default does not. */
export function allowedByNone(
  ref: RuleRef,
  source: SpiffeId | null,
  destination: SpiffeId,
): Refusal {
  const detail = `${describeRule(ref)}: no rule allows this to ${callerName(source)}, calling ${destination}`
  return Object.freeze({ reason: 'policy-denied', ref, detail })
}

/** The request has more than one reading, and a rule depends on which. */
export function ambiguousTo(ref: RuleRef, problem: string): Refusal {
  const detail = `${describeRule(ref)} cannot judge this request by its ${problem}`
  return { reason: 'ambiguous-request', ref, detail }
}

function callerName(source: SpiffeId | null): string {
  return source ?? 'a caller without an identity'
}
