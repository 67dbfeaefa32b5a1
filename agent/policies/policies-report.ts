/** Owns what the agent tells of policy: its files, and what holds for each service. Pure. */

import type { PoliciesReport, ServicePolicyReport } from '#shared/model/admin-policies.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import type { Policy, PolicyRule, ServicePolicy } from '#shared/model/policy.ts'
import { absolutePattern } from '#shared/policy/identity-pattern.ts'
import { describeRule } from '#shared/policy/refusal.ts'
import { looksInside } from '#shared/policy/rule-match.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import type { AllPolicies } from './all-policies.ts'
import type { ProtectedManifests } from './protected-manifests.ts'
import type { Protection } from './protection.ts'

/** What a report is made from. */
export interface PoliciesReportParts {
  readonly directory: string
  readonly files: Pick<AllPolicies, 'verdicts' | 'directoryProblem'>
  readonly manifests: Pick<ProtectedManifests, 'known' | 'policyOf' | 'of'>
  /** Null until the host has enrolled. */
  readonly trustDomain: TrustDomain | null
}

/** Tells of policy. */
export function policiesReport(parts: PoliciesReportParts): PoliciesReport {
  const { directory, files, manifests, trustDomain } = parts
  return {
    directory: { path: directory, problem: files.directoryProblem },
    files: files.verdicts.map(({ path, verdict, problems, policy }) => ({
      file: path,
      verdict,
      problems: problems.map(renderProblem),
      services: policy?.services ?? [],
      mode: policy?.mode ?? 'enforce',
    })),
    services: manifests.known.flatMap((manifest) =>
      manifest.port === undefined && manifest.external === undefined
        ? []
        : serviceReport(manifest, manifests.policyOf(manifest.service), {
            protection: manifests.of(manifest.service),
            trustDomain,
            files: files.verdicts.flatMap(({ policy }) => policy ?? []),
          }),
    ),
  }
}

function serviceReport(
  manifest: Manifest,
  policy: ServicePolicy,
  more: {
    readonly protection: Protection
    readonly trustDomain: TrustDomain | null
    readonly files: readonly Policy[]
  },
): ServicePolicyReport {
  const { service } = manifest
  const { enforced, audited } = policy
  const all = audited ?? enforced
  const { protection, trustDomain } = more
  return {
    service,
    strict: policy.strict,
    fallback: enforced.fallback.policy,
    deny: all.deny.length,
    allow: all.allow.length,
    audit: audited !== null,
    protection: protection.kind,
    note: noteOf(protection),
    idle: [
      ...[...all.deny, ...all.allow].flatMap((rule) => {
        const why = idleBecause(rule, manifest, trustDomain)
        return why === '' ? [] : [`${describeRule(rule.ref)} ${why}`]
      }),
      ...more.files.flatMap((file) => strangePorts(file, manifest)),
    ],
  }
}

/** Rules that speak of this very service and of a port it does not have. */
function strangePorts(
  { services, deny, allow }: Policy,
  { service, ports }: Manifest,
): readonly string[] {
  if (!services.includes(service)) return []
  return [...deny, ...allow].flatMap(({ ref, portNames = [] }) =>
    portNames
      .filter((name) => ports.every((port) => port.name !== name))
      .map((name) => `${describeRule(ref)} names the port ${name}, which ${service} does not have`),
  )
}

function noteOf(protection: Protection): string {
  switch (protection.kind) {
    case 'not-needed':
    case 'locked':
      return ''
    case 'local-only':
      return protection.warning
    case 'unprotected':
      return renderProblem(protection.problem)
  }
}

/** Why a rule does nothing, or not what it says; empty where it does. */
function idleBecause(
  rule: PolicyRule,
  { port, protocol, ports, external }: Manifest,
  trustDomain: TrustDomain | null,
): string {
  const places = [{ port: port ?? external?.port, protocol }, ...ports].filter(
    (one) => rule.ports.length === 0 || rule.ports.some((number) => number === one.port),
  )
  if (looksInside(rule) && places.every((one) => one.protocol === 'tcp')) {
    return 'is about requests, and the service speaks raw TCP'
  }
  if (trustDomain === null || rule.from.length === 0) return ''
  const ours = `spiffe://${trustDomain}/`
  return rule.from.every((one) => !absolutePattern(one, trustDomain).text.startsWith(ours))
    ? `names callers of other trust domains only, and this is ${trustDomain}`
    : ''
}
