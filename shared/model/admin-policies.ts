/**
 * Owns what an agent tells on its admin socket of policies: the files, what holds for its services, and
 * why one call is permitted or is not.
 */

import type { DefaultPolicy, PolicyMode, RuleRef } from './policy.ts'

/** `GET /v1/policies`. */
export interface PoliciesReport {
  readonly directory: { readonly path: string; readonly problem: string }
  readonly files: readonly PolicyFileReport[]
  readonly services: readonly ServicePolicyReport[]
}

/** One policy file. */
export interface PolicyFileReport {
  readonly file: string
  readonly verdict: 'accepted' | 'rejected'
  /** One line each, with file, line and column. */
  readonly problems: readonly string[]
  /** What it selects, as far as it is in force. */
  readonly services: readonly string[]
  readonly mode: PolicyMode
}

/** What holds for one service of the answering host. */
export interface ServicePolicyReport {
  readonly service: string
  /** Whether anything is allowed or denied in earnest. */
  readonly strict: boolean
  readonly fallback: DefaultPolicy
  /** How many rules there are, those in audit mode included. */
  readonly deny: number
  readonly allow: number
  /** Whether a policy in audit mode is about it. */
  readonly audit: boolean
  readonly protection: 'not-needed' | 'locked' | 'local-only' | 'unprotected'
  /** Why it is not fully protected; empty otherwise. */
  readonly note: string
  /** Rules that do not do what they say, and why. */
  readonly idle: readonly string[]
}

/** What one rule says of a call. */
export interface RuleFinding {
  readonly effect: 'deny' | 'allow'
  readonly mode: PolicyMode
  readonly ref: RuleRef
  /** `depends` where a request would have to be looked into. */
  readonly outcome: 'fits' | 'misses' | 'ambiguous' | 'depends'
  readonly why: string
}

/** Whether a call is permitted, and why. */
export interface CallExplanation {
  readonly verdict: 'permitted' | 'denied' | 'depends'
  /** Empty unless denied. */
  readonly reason: string
  /** The rule or default in words. */
  readonly by: string
  readonly ref: RuleRef | null
  /** What a policy in audit mode would say against it; null where nothing. */
  readonly audit: string | null
  readonly rules: readonly RuleFinding[]
}

/** `GET /v1/authz/explain?source=…&service=…&method=…&path=…`. */
export type AuthzAnswer =
  | ({
      readonly kind: 'explained'
      /** Empty for a program without an identity. */
      readonly source: string
      /** What else the caller's name may have meant; empty where nothing suggests it. */
      readonly doubt: string
      readonly destination: string
      readonly port: number
      readonly protocol: string
      /** As rules see it; empty without one, or where it is ambiguous. */
      readonly path: string
    } & CallExplanation)
  /** The service is no service of the answering host, but of these. */
  | { readonly kind: 'elsewhere'; readonly service: string; readonly hosts: readonly string[] }
  | { readonly kind: 'bad-question'; readonly problem: string }
