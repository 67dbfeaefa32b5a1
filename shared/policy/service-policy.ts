/**
 * Owns what several policies mean together for one service: their rules in one list each, the
 * strictest default, and the same once more with those in audit mode counted in. Pure.
 */

import type { ServiceName } from '#shared/model/names.ts'
import type {
  DefaultPolicy,
  Policy,
  PolicyRule,
  RuleRef,
  RuleSet,
  ServicePolicy,
} from '#shared/model/policy.ts'
import type { NamedPort } from '#shared/model/records.ts'

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

/** What holds for a service whose ports have these names. Policies count in the order given. */
export function servicePolicyOf(
  service: ServiceName,
  policies: readonly Policy[],
  ports: readonly NamedPort[] = [],
): ServicePolicy {
  const mine = policies.filter((policy) => selects(policy, service))
  if (mine.length === 0) return openPolicy
  const obeyed = mine.filter(({ mode }) => mode === 'enforce')
  const enforced = ruleSetOf(obeyed)
  return {
    enforced: numbered(enforced, ports),
    audited: obeyed.length < mine.length ? numbered(ruleSetOf(mine), ports) : null,
    strict: enforced.deny.length + enforced.allow.length > 0 || enforced.fallback.policy === 'deny',
  }
}

/**
 * Names of ports become their numbers. A rule about ports the service does not have is about nothing,
 * and goes; what was made of it, such as the default, stays.
 */
function numbered({ deny, allow, fallback }: RuleSet, named: readonly NamedPort[]): RuleSet {
  const inNumbers = (rule: PolicyRule): readonly PolicyRule[] => {
    const { portNames, ...rest } = rule
    if (portNames === undefined) return [rule]
    const found = named.filter(({ name }) => portNames.includes(name)).map(({ port }) => port)
    const ports = [...rule.ports, ...found]
    return ports.length === 0 ? [] : [{ ...rest, ports }]
  }
  return { deny: deny.flatMap(inNumbers), allow: allow.flatMap(inNumbers), fallback }
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
