/**
 * Owns the judgement whether a policy protects its service: a rule about callers means nothing to a
 * program that others reach without the mesh. Pure.
 */

import { servedPorts, type Manifest } from '#shared/model/manifest.ts'
import type { RuleRef, ServicePolicy } from '#shared/model/policy.ts'
import { describeRule } from '#shared/policy/refusal.ts'
import type { Problem } from '#shared/schema/problem.ts'

/** Tells whether only the mesh reaches a service's port; the kernel's rules know. */
export interface InboundLock {
  isInForce(service: Manifest['service']): boolean
}

/** How far a service is protected. */
export type Protection =
  /** Nothing is allowed or denied in earnest. */
  | { readonly kind: 'not-needed' }
  /** The port can only be reached through the mesh. */
  | { readonly kind: 'locked' }
  /** It listens on loopback alone: programs of this host reach it, others do not. */
  | { readonly kind: 'local-only'; readonly warning: string }
  /** Whoever reaches one of the addresses calls it past its policy. */
  | {
      readonly kind: 'unprotected'
      /** As in `0.0.0.0:8080`. */
      readonly places: readonly string[]
      readonly problem: Problem
    }

/** Judges one service; `places` are where beyond loopback its ports are listened on. */
export function protectionOf(
  manifest: Manifest,
  policy: ServicePolicy,
  facts: { readonly isLocked: boolean; readonly places: readonly string[] },
): Protection {
  const { service, port } = manifest
  const { isLocked, places } = facts
  if (!policy.strict || port === undefined) return { kind: 'not-needed' }
  if (isLocked) return { kind: 'locked' }
  const rule = firstRule(policy)
  if (places.length === 0) {
    const numbers = servedPorts(manifest).map((one) => one.port)
    const words = `port${numbers.length > 1 ? 's' : ''} ${numbers.join(', ')}`
    const warning = `programs of this host can reach ${words} past ${describeRule(rule)}`
    return { kind: 'local-only', warning }
  }
  const problem: Problem = {
    file: rule.file,
    line: rule.line,
    column: 1,
    path: '',
    rule: 'unprotected',
    message: `${service} listens at ${places.join(', ')}, where callers reach it past ${rule.rule}`,
    hint: 'let it listen on 127.0.0.1 only, or set "policyMode": "audit" to count without refusing',
  }
  return { kind: 'unprotected', places, problem }
}

function firstRule({ enforced: { deny, allow, fallback } }: ServicePolicy): RuleRef {
  return (deny[0] ?? allow[0] ?? fallback).ref
}
