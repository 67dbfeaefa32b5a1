/**
 * Owns what several policies mean together for one service: their rules in one list each, the
 * strictest default, and the same once more with those in audit mode counted in. Pure.
 */

import type { ServiceName } from '#shared/model/names.ts'
import type {
  DefaultPolicy,
  Policy,
  RuleRef,
  RuleSet,
  ServicePolicy,
} from '#shared/model/policy.ts'

/** Strictest last. */
const strictness: readonly DefaultPolicy[] = ['allow-all', 'allow-mesh', 'deny']

const nothingSaid: RuleSet = {
  deny: [],
  allow: [],
  fallback: { policy: 'allow-mesh', ref: { rule: 'default allow-mesh', file: '', line: 0 } },
}

/** The policy of a service of which nothing is said. */
export const openPolicy: ServicePolicy = { enforced: nothingSaid, audited: null, strict: false }

/** Whether a policy selects a service. */
export function selects({ services }: Pick<Policy, 'services'>, service: ServiceName): boolean {
  return services.some((name) =>
    name.endsWith('*') ? service.startsWith(name.slice(0, -1)) : name === service,
  )
}

/** What holds for a service. Policies count in the order given. */
export function servicePolicyOf(service: ServiceName, policies: readonly Policy[]): ServicePolicy {
  const mine = policies.filter((policy) => selects(policy, service))
  if (mine.length === 0) return openPolicy
  const obeyed = mine.filter(({ mode }) => mode === 'enforce')
  const enforced = ruleSetOf(obeyed)
  return {
    enforced,
    audited: obeyed.length < mine.length ? ruleSetOf(mine) : null,
    strict: enforced.deny.length + enforced.allow.length > 0 || enforced.fallback.policy === 'deny',
  }
}

function ruleSetOf(policies: readonly Policy[]): RuleSet {
  const deny = policies.flatMap((policy) => policy.deny)
  const allow = policies.flatMap((policy) => policy.allow)
  const said = policies.flatMap(({ fallback }) => fallback ?? [])
  const strictest = said.reduce<(typeof said)[number] | null>(
    (best, one) =>
      best === null || strictness.indexOf(one.policy) > strictness.indexOf(best.policy)
        ? one
        : best,
    null,
  )
  return { deny, allow, fallback: strictest ?? unsaid(allow[0]?.ref) }
}

/** Whoever names those who may call means that others may not. */
function unsaid(allowed: RuleRef | undefined): RuleSet['fallback'] {
  if (allowed === undefined) return nothingSaid.fallback
  return { policy: 'deny', ref: { ...allowed, rule: 'default deny' } }
}
