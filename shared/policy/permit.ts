/**
 * Owns the permit: the proof that policy allowed a call. Only this room mints one and the relay
 * demands one, so that no code path can carry bytes that nobody authorised.
 */

import type { Refusal } from './refusal.ts'

declare const brand: unique symbol

/** Proof that policy allowed a call. */
export interface Permit {
  readonly [brand]: true
  /** The rule that allowed it, for logs: a policy's name, or the default that applied. */
  readonly rule: string
  /** What a policy in audit mode would have said against it; null where none would. */
  readonly audit: Refusal | null
}

/** For this room alone: makes the permit of a rule. */
export function mintPermit(rule: string, audit: Refusal | null = null): Permit {
  return Object.freeze({ rule, audit }) as Permit
}
