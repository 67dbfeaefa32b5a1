/**
 * Owns the permit: the proof that policy allowed a call. Only this room mints one and the relay
 * demands one, so that no code path can carry bytes that nobody authorised.
 */

import type { RuleRef } from '#shared/model/policy.ts'
import type { Refusal } from './refusal.ts'

declare const brand: unique symbol

/** Proof that policy allowed a call. */
export interface Permit {
  readonly [brand]: true
  /** The rule that allowed it, for logs: a policy's name, or the default that applied. */
  readonly rule: string
  /** Where that rule stands; null where it is none. */
  readonly ref: RuleRef | null
  /** What a policy in audit mode would have said against it; null where none would. */
  readonly audit: Refusal | null
}

/** For this room alone: makes the permit of a rule. */
export function mintPermit(
  rule: string,
  more: { readonly ref?: RuleRef | null; readonly audit?: Refusal } = {},
): Permit {
  const { ref = null, audit = null } = more
  return Object.freeze({ rule, ref, audit }) as Permit
}
