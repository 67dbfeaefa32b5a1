/**
 * Owns what a service's policy means for one caller on one port: settled at once where no rule looks
 * into requests, else the few rules that matter, in order: who denies, who allows, the default. Pure.
 * Made once per caller; judging a request costs nothing where everything is settled.
 */

import type { Port } from '#shared/model/names.ts'
import type { PolicyRule, RuleRef, RuleSet } from '#shared/model/policy.ts'
import type { RequestFacts } from '#shared/model/request.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { mintPermit, type Permit } from './permit.ts'
import { allowedByNone, ambiguousTo, deniedBy, describeRule, type Refusal } from './refusal.ts'
import { fitCall, fitRequest, looksInside, type Effect } from './rule-match.ts'

/** The answer, with the rule that gave it. */
export type Verdict =
  | { readonly kind: 'permitted'; readonly permit: Permit }
  | { readonly kind: 'denied'; readonly refusal: Refusal }

/** A call, as far as it is known before any request. */
export interface CallFacts {
  /** Null where the caller has proved no identity. */
  readonly source: SpiffeId | null
  readonly destination: SpiffeId
  readonly port: Port
  /** Whether there will be requests to look into. */
  readonly http: boolean
}

/** A rule that matters to this caller, with its verdict. */
interface Weighed {
  readonly rule: PolicyRule
  readonly verdict: Verdict
}

/** A rule set as far as it matters to one caller. */
type Half =
  | { readonly kind: 'settled'; readonly verdict: Verdict }
  | {
      readonly kind: 'open'
      readonly deny: readonly Weighed[]
      readonly allow: readonly Weighed[]
      readonly otherwise: Verdict
    }

/** See the header. */
export class CallerPolicy {
  /**
   * The verdict on the connection, and where nothing is open on every request. Permitted where the
   * requests decide.
   */
  readonly connection: Verdict
  /** Whether requests are to be judged one by one. */
  readonly isOpen: boolean
  readonly #enforced: Half
  readonly #audited: Half | null

  /** The rules' patterns are those of `CompiledPolicy`. */
  constructor(
    sets: { readonly enforced: RuleSet; readonly audited: RuleSet | null },
    call: CallFacts,
  ) {
    this.#enforced = weigh(sets.enforced, call)
    this.#audited = sets.audited === null ? null : weigh(sets.audited, call)
    const isSettled = this.#enforced.kind === 'settled' && this.#audited?.kind !== 'open'
    const isDenied = this.#enforced.kind === 'settled' && this.#enforced.verdict.kind === 'denied'
    this.isOpen = !isSettled && !isDenied
    this.connection = this.isOpen ? untilRequested : this.#combined(null)
  }

  /** The verdict on one request. */
  judge(request: RequestFacts): Verdict {
    return this.isOpen ? this.#combined(request) : this.connection
  }

  #combined(request: RequestFacts | null): Verdict {
    const verdict = decide(this.#enforced, request)
    if (verdict.kind === 'denied' || this.#audited === null) return verdict
    const audit = decide(this.#audited, request)
    return audit.kind === 'permitted'
      ? verdict
      : { kind: 'permitted', permit: audited(verdict.permit, audit.refusal) }
  }
}

const untilRequested: Verdict = {
  kind: 'permitted',
  permit: mintPermit('each request is judged by itself'),
}

function weigh(set: RuleSet, call: CallFacts): Half {
  const { source, port, http } = call
  const matters = (rule: PolicyRule): boolean => fitCall(rule, source, port).kind === 'fits'
  // Raw bytes hold nothing to look into: who may be denied is, who may be allowed is not.
  const deny = set.deny.filter(matters)
  const denied = deny.find((rule) => !http || !looksInside(rule))
  if (denied !== undefined) return settled(verdictOf('deny', denied, call))
  const allow = set.allow.filter((rule) => matters(rule) && (http || !looksInside(rule)))
  const allowed = allow.find((rule) => !looksInside(rule))
  const otherwise = allowed === undefined ? fallback(set, call) : verdictOf('allow', allowed, call)
  const asked = otherwise.kind === 'permitted' ? [] : allow
  if (deny.length + asked.length === 0) return settled(otherwise)
  const weighed = (effect: Effect) => (rule: PolicyRule) => ({
    rule,
    verdict: verdictOf(effect, rule, call),
  })
  return {
    kind: 'open',
    deny: deny.map(weighed('deny')),
    allow: asked.map(weighed('allow')),
    otherwise,
  }
}

function settled(verdict: Verdict): Half {
  return { kind: 'settled', verdict }
}

function verdictOf(effect: Effect, { ref }: PolicyRule, call: CallFacts): Verdict {
  switch (effect) {
    case 'deny':
      return { kind: 'denied', refusal: deniedBy(ref, call.source, call.destination) }
    case 'allow':
      return { kind: 'permitted', permit: permitOf(ref) }
  }
}

function permitOf(ref: RuleRef): Permit {
  return mintPermit(describeRule(ref), { ref })
}

function audited({ rule, ref }: Permit, audit: Refusal): Permit {
  return mintPermit(rule, { ref, audit })
}

function fallback({ fallback: { policy, ref } }: RuleSet, call: CallFacts): Verdict {
  const isPermitted = policy === 'allow-all' || (policy === 'allow-mesh' && call.source !== null)
  return isPermitted
    ? { kind: 'permitted', permit: permitOf(ref) }
    : { kind: 'denied', refusal: allowedByNone(ref, call.source, call.destination) }
}

function decide(half: Half, request: RequestFacts | null): Verdict {
  if (half.kind === 'settled') return half.verdict
  if (request === null) return half.otherwise
  for (const { rule, verdict } of half.deny) {
    const fit = fitRequest(rule, 'deny', request)
    if (fit.kind === 'fits') return verdict
    if (fit.kind === 'ambiguous') return doubted(rule, fit.problem)
  }
  let doubt: Verdict | null = null
  for (const { rule, verdict } of half.allow) {
    const fit = fitRequest(rule, 'allow', request)
    if (fit.kind === 'fits') return verdict
    if (fit.kind === 'ambiguous') doubt ??= doubted(rule, fit.problem)
  }
  return doubt ?? half.otherwise
}

function doubted({ ref }: PolicyRule, problem: string): Verdict {
  return { kind: 'denied', refusal: ambiguousTo(ref, problem) }
}
