/**
 * Owns a service's policy ready for use: patterns made absolute in the trust domain, paths of rules
 * that deny folded, and per caller what is left to decide. Replaced whole when the policy changes, so
 * that comparing two references tells whether it did. Pure.
 */

import type { Port, TrustDomain } from '#shared/model/names.ts'
import type { PolicyRule, RuleSet, ServicePolicy } from '#shared/model/policy.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { CallerPolicy } from './caller-policy.ts'
import { absolutePattern } from './identity-pattern.ts'
import { foldedPattern } from './path-pattern.ts'

/** Settings of a compiled policy. */
export interface CompiledPolicySettings {
  readonly trustDomain: TrustDomain
  /** The service it is about. */
  readonly destination: SpiffeId
}

/** More callers are not remembered at once; identities are proven, so there are not many. */
const mostCallers = 10_000

/** See the header. */
export class CompiledPolicy {
  readonly destination: SpiffeId
  /** The rules as they are matched. */
  readonly enforced: RuleSet
  readonly audited: RuleSet | null
  /** By port and kind of traffic, then by caller, so that finding one makes no text. */
  readonly #callers = new Map<number, Map<SpiffeId | null, CallerPolicy>>()

  constructor(policy: ServicePolicy, settings: CompiledPolicySettings) {
    const { trustDomain, destination } = settings
    this.destination = destination
    this.enforced = ready(policy.enforced, trustDomain)
    this.audited = policy.audited === null ? null : ready(policy.audited, trustDomain)
  }

  /** What it means for one caller. `http` tells whether there will be requests to look into. */
  forCaller(source: SpiffeId | null, port: Port, http: boolean): CallerPolicy {
    const key = http ? Number(port) : -Number(port)
    let callers = this.#callers.get(key)
    if (callers === undefined) this.#callers.set(key, (callers = new Map()))
    const known = callers.get(source)
    if (known !== undefined) return known
    if (callers.size >= mostCallers) callers.clear()
    const { destination } = this
    const made = new CallerPolicy(this, { source, destination, port, http })
    callers.set(source, made)
    return made
  }
}

function ready(set: RuleSet, trustDomain: TrustDomain): RuleSet {
  const inMesh = (rule: PolicyRule): PolicyRule => ({
    ...rule,
    from: rule.from.map((pattern) => absolutePattern(pattern, trustDomain)),
  })
  return {
    allow: set.allow.map(inMesh),
    deny: set.deny.map((rule) => ({ ...inMesh(rule), paths: rule.paths.map(foldedPattern) })),
    fallback: set.fallback,
  }
}
