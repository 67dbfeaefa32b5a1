/**
 * Owns policy as plain data: who may call a service, by which rules, and where each rule stands.
 * `shared/schema/policy.ts` reads it from files, `shared/policy` decides by it.
 */

import type { Port, PortName } from './names.ts'

/** Where a rule stands, so that a refusal can say so. */
export interface RuleRef {
  /** Its name, or its place such as `deny[0]`; `default deny` and the like for defaults. */
  readonly rule: string
  /** The file; empty for the default of every service. */
  readonly file: string
  /** From 1; 0 without a file. */
  readonly line: number
}

/** What happens to a call that no rule mentions. */
export type DefaultPolicy =
  /** Anybody may call, also programs without an identity. */
  | 'allow-all'
  /** Whoever proves an identity of this mesh. */
  | 'allow-mesh'
  | 'deny'

/** Whether a policy is obeyed, or only counted and logged. */
export type PolicyMode = 'enforce' | 'audit'

/**
 * Identities. The text is a whole SPIFFE id, or `<kind>/<name>` in the trust domain of the mesh; of
 * a prefix, its beginning. The empty prefix is every identity of the mesh.
 */
export interface IdentityPattern {
  readonly kind: 'exact' | 'prefix'
  readonly text: string
}

/** Paths, in decoded form. */
export interface PathPattern {
  /** As written, without the `*` at its end. */
  readonly text: string
  /** `subtree` is `/a/*`: `/a` and everything below; `prefix` is `/a*`: whatever begins so. */
  readonly kind: 'exact' | 'prefix' | 'subtree'
  /** Whether `{name}` stands for segments. */
  readonly template: boolean
}

/** A header field and the values that fit. */
export interface HeaderCondition {
  /** In lower case. */
  readonly name: string
  readonly values: readonly ValuePattern[]
}

/** A value; of a prefix, its beginning. The empty prefix is any value. */
export interface ValuePattern {
  readonly kind: 'exact' | 'prefix'
  readonly text: string
}

/** A rule: every list that is not empty must fit, by any of its items. */
export interface PolicyRule {
  readonly ref: RuleRef
  readonly from: readonly IdentityPattern[]
  readonly methods: readonly string[]
  readonly paths: readonly PathPattern[]
  /** In lower case, without port; a leading `*.` is any name below. */
  readonly hosts: readonly string[]
  readonly headers: readonly HeaderCondition[]
  readonly ports: readonly Port[]
  /** Ports by name, which are numbers where the rule counts; absent there. */
  readonly portNames?: readonly PortName[]
}

/** One file's word on the services it selects. */
export interface Policy {
  readonly file: string
  /** Names of services; with `*` at the end, beginnings of names. */
  readonly services: readonly string[]
  readonly mode: PolicyMode
  /** Null where the file says nothing of it. */
  readonly fallback: { readonly policy: DefaultPolicy; readonly ref: RuleRef } | null
  readonly deny: readonly PolicyRule[]
  readonly allow: readonly PolicyRule[]
}

/** Rules that count together, and what holds where none fits. */
export interface RuleSet {
  readonly deny: readonly PolicyRule[]
  readonly allow: readonly PolicyRule[]
  readonly fallback: { readonly policy: DefaultPolicy; readonly ref: RuleRef }
}

/** Everything that was said of one service. */
export interface ServicePolicy {
  readonly enforced: RuleSet
  /** The same with the policies in audit mode obeyed too; null where there are none. */
  readonly audited: RuleSet | null
  /** Whether callers must come through the mesh: something is allowed or denied in earnest. */
  readonly strict: boolean
}
