/**
 * Owns the answer to "why may this caller, or why not": the verdict with its rule, and what every
 * rule of the service says of the call. Asked by people, so it may take its time. Pure.
 */

import type { RuleSet } from '#shared/model/policy.ts'
import type { RequestFacts } from '#shared/model/request.ts'
import type { CallExplanation, RuleFinding } from '#shared/model/admin-policies.ts'
import type { CallFacts, Verdict } from './caller-policy.ts'
import type { CompiledPolicy } from './compiled-policy.ts'
import { fitCall, fitRequest, looksInside, type Effect, type Fit } from './rule-match.ts'

/** Explains a call; without a request, as far as it is decided when the connection opens. */
export function explain(
  policy: CompiledPolicy,
  call: CallFacts,
  request: RequestFacts | null,
): CallExplanation {
  const caller = policy.forCaller(call.source, call.port, call.http)
  const isOpen = request === null && caller.isOpen
  const verdict = request === null ? caller.connection : caller.judge(request)
  return { ...(isOpen ? openWords : wordsOf(verdict)), rules: findings(policy, call, request) }
}

const openWords: Omit<CallExplanation, 'rules'> = {
  verdict: 'depends',
  reason: '',
  by: 'rules that look into requests: ask with a method and a path',
  ref: null,
  audit: null,
}

function wordsOf(verdict: Verdict): Omit<CallExplanation, 'rules'> {
  if (verdict.kind === 'denied') {
    const { reason, detail, ref } = verdict.refusal
    return { verdict: 'denied', reason, by: detail, ref, audit: null }
  }
  const { rule, ref, audit } = verdict.permit
  return { verdict: 'permitted', reason: '', by: rule, ref, audit: audit?.detail ?? null }
}

function findings(
  { enforced, audited }: CompiledPolicy,
  call: CallFacts,
  request: RequestFacts | null,
): readonly RuleFinding[] {
  const all = audited ?? enforced
  const of = (effect: Effect): RuleFinding[] =>
    all[effect].map((rule): RuleFinding => {
      const isEnforced = enforced[effect].some(({ ref }) => isSame(ref, rule.ref))
      const fit = fitOf(rule, effect, call, request)
      return { effect, mode: isEnforced ? 'enforce' : 'audit', ref: rule.ref, ...fit }
    })
  return [...of('deny'), ...of('allow')]
}

function isSame(a: RuleFinding['ref'], b: RuleFinding['ref']): boolean {
  return a.rule === b.rule && a.file === b.file && a.line === b.line
}

function fitOf(
  rule: RuleSet['deny'][number],
  effect: Effect,
  { source, port, http }: CallFacts,
  request: RequestFacts | null,
): Pick<RuleFinding, 'outcome' | 'why'> {
  const outer = fitCall(rule, source, port)
  if (outer.kind !== 'fits' || !looksInside(rule)) return wordsOfFit(outer)
  if (!http) {
    return effect === 'deny'
      ? { outcome: 'fits', why: 'raw bytes cannot be looked into, so its other conditions count' }
      : { outcome: 'misses', why: 'raw bytes cannot be looked into' }
  }
  if (request === null) return { outcome: 'depends', why: 'it looks into requests' }
  return wordsOfFit(fitRequest(rule, effect, request))
}

function wordsOfFit(fit: Fit): Pick<RuleFinding, 'outcome' | 'why'> {
  switch (fit.kind) {
    case 'fits':
      return { outcome: 'fits', why: '' }
    case 'misses':
      return { outcome: 'misses', why: `${fit.condition}: none of them fits` }
    case 'ambiguous':
      return { outcome: 'ambiguous', why: fit.problem }
  }
}
