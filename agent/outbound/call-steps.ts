/**
 * Owns the caller side's steps: route, policy and balance of one caller connection. Decisions are
 * made once per (service, caller, instance) and used again, so that a request allocates none.
 */

import type { RequestHead } from '#agent/http1/head.ts'
import { RequestView } from '#agent/http1/request-view.ts'
import type { Clock, Random } from '#agent/platform.ts'
import type { HttpSteps } from '#agent/relay/steps.ts'
import type { Decision, Upstream } from '#agent/relay/upstream.ts'
import type { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { Port } from '#shared/model/names.ts'
import type { Reason } from '#shared/model/reason.ts'
import { serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { serviceOfTarget, type TargetName } from '#shared/model/target.ts'
import type { Verdict } from '#shared/policy/caller-policy.ts'
import { permitToCarry } from '#shared/policy/carrying.ts'
import type { Permit } from '#shared/policy/permit.ts'
import type { PolicyTable } from '#shared/policy/policy-table.ts'
import type { Refusal } from '#shared/policy/refusal.ts'
import { portOfAuthority, targetOfAuthority } from '#shared/route/mesh-name.ts'
import { answerTo, LookupUpstream } from './lookup-upstream.ts'
import type { Found, Lookups } from './lookups.ts'
import type { MeshEndpoint, Place } from './mesh-endpoint.ts'
import type { CallableService, ServiceTable } from './service-table.ts'

/** What steps lean on. */
export interface CallStepsParts {
  readonly services: Pick<ServiceTable, 'find' | 'trustDomain'>
  /** Who may call the services of this host. */
  readonly policies: Pick<PolicyTable, 'of'>
  readonly clock: Clock
  readonly random: Random
  readonly counters: Pick<TrafficCounters, 'tally'>
  /** Looks for services the snapshot does not have. @default it has all there are */
  readonly lookups?: Pick<Lookups, 'isOnDemand' | 'look'>
}

/** Settings of one caller connection. */
export interface CallStepsSettings {
  /** The target its listener belongs to; null where each request names one. */
  readonly target: TargetName | null
  readonly source: SpiffeId | null
  readonly callerAddress: string
}

/** Failures that another instance may not share. */
const elsewhere: ReadonlySet<Reason> = new Set([
  'tunnel-failed',
  'tunnel-refused-identity',
  'tunnel-lost',
  'draining',
  'overloaded',
  'no-instances',
  'unknown-service',
  'instance-refused',
  'instance-aborted',
  'external-failed',
])

/** Of these, those after which the request may have been executed. */
const lost: ReadonlySet<Reason> = new Set(['tunnel-lost', 'instance-aborted'])

/** Nothing was tried yet. */
const none: readonly MeshEndpoint[] = []

/** See the header. */
export class CallSteps implements HttpSteps {
  readonly direction = 'outbound'
  readonly mtls = false
  readonly source: SpiffeId | null
  readonly callerAddress: string
  readonly #parts: CallStepsParts
  readonly #target: TargetName | null
  /** The request that was last decided; null before the first, and on raw connections. */
  #request: RequestHead | null = null
  /** Of the call under way. */
  #called: CallableService | null = null
  /** The endpoints that were tried, the last one at the end. */
  #tried: readonly MeshEndpoint[] = []
  /** Whether the call under way was lost once after it had been sent. */
  #wasLost = false
  /** The target that was not known when it was called. */
  #lookedFor: TargetName | null = null
  /** Why it is not known either now that it was looked for; the next call of it is told so. */
  #missed: Found | null = null

  constructor(parts: CallStepsParts, settings: CallStepsSettings) {
    this.#parts = parts
    this.#target = settings.target
    this.source = settings.source
    this.callerAddress = settings.callerAddress
  }

  decide(head: RequestHead): Decision {
    this.#request = head
    if (this.#target !== null) return this.decideTarget(this.#target)
    const named = targetOfAuthority(head.authority)
    if (!named.ok) return refuse('not-mesh-name', named.problem, null)
    const found = this.#parts.services.find(named.value)
    const byPort = found?.byPort ?? null
    // `orders.mesh:9090` is the port that has the number, as it is for captured connections.
    const meant = byPort === null ? undefined : byPort.get(portOfAuthority(head.authority) ?? 0)
    return this.#decideCallable(named.value, meant ?? found)
  }

  /** Policy and balance, where the target is known. */
  decideTarget(name: TargetName): Decision {
    return this.#decideCallable(name, this.#parts.services.find(name))
  }

  #decideCallable(name: TargetName, called: CallableService | null): Decision {
    if (called === null) return this.#lookFor(name)
    this.#called = called
    called.use.isRecent = true
    const { source } = this
    if (source === null) {
      return refuse(
        'no-credential',
        'this host has no identity yet: see meshctl check',
        name,
        called,
      )
    }
    const endpoint = this.#pick(called.picker, none)
    if (endpoint === null) {
      return refuse('no-instances', `no instance of ${name} is in rotation`, name, called)
    }
    if (endpoint.isFull) {
      const limit = 'maxConcurrent'
      this.#parts.counters.tally(agentMetrics.limitRefusals.name, { limit })
      const detail = `the instance of ${name} on this host has as many calls as it may (${limit})`
      return refuse('overloaded', detail, name, called)
    }
    called.budget.requested()
    this.#tried = endpoint.alone
    this.#wasLost = false
    return this.#decision(called, endpoint, source)
  }

  again(failed: Upstream, reason: Reason): Upstream | null {
    if (failed instanceof LookupUpstream) return this.#found()
    const called = this.#called
    if (called === null || this.source === null || !elsewhere.has(reason)) return null
    // A request that ends whoever takes it must not go round.
    if (this.#wasLost && lost.has(reason)) return null
    this.#wasLost ||= lost.has(reason)
    if (!called.budget.spend(this.#parts.clock.elapsed())) return null
    const { picker } = this.#parts.services.find(called.view.target) ?? called
    const endpoint = this.#pick(picker, this.#tried)
    if (endpoint === null || endpoint.isFull) return null
    this.#tried = [...this.#tried, endpoint]
    this.#parts.counters.tally(agentMetrics.retries.name, { destination: called.id, reason })
    const decision = this.#decision(called, endpoint, this.source)
    return decision.kind === 'forward' ? decision.upstream : null
  }

  /**
   * Has a target looked for before it is called; false: there is none to be found. `done` is called once, not
   * before this has returned.
   */
  lookFor(name: TargetName, done: () => void): boolean {
    const lookups = this.#lookupsFor(name)
    lookups?.look(serviceOfTarget(name), (found) => {
      if (found !== 'found') this.#missed = found
      done()
    })
    return lookups !== null
  }

  /** Where a target may be found that is not known; null where there can be none. */
  #lookupsFor(name: TargetName): Pick<Lookups, 'look'> | null {
    const { lookups, services } = this.#parts
    const isKnown = services.find(serviceOfTarget(name)) !== null
    return lookups?.isOnDemand !== true || isKnown || this.source === null ? null : lookups
  }

  /** The snapshot may not have all there are: the call waits until that is known. */
  #lookFor(name: TargetName): Decision {
    const { trustDomain } = this.#parts.services
    const service = serviceOfTarget(name)
    const lookups = this.#lookupsFor(name)
    if (lookups === null || trustDomain === null) {
      return refuse('unknown-service', unknown(name), name)
    }
    const missed = this.#missed
    this.#missed = null
    const destination = serviceId(trustDomain, service)
    if (missed !== null) {
      return { ...refuse(...answerTo(missed, service), name), destination }
    }
    this.#called = null
    this.#tried = none
    this.#lookedFor = name
    return {
      kind: 'forward',
      upstream: new LookupUpstream({ lookups }, service),
      permit: permitToCarry(),
      service,
      destination,
    }
  }

  /** Where a call goes whose service was looked for. */
  #found(): Upstream | null {
    const name = this.#lookedFor
    if (name === null || this.#parts.services.find(name) === null) return null
    // The request may name the service by a port of it.
    const decision = this.#request === null ? this.decideTarget(name) : this.decide(this.#request)
    return decision.kind === 'forward' ? decision.upstream : null
  }

  /** Calls that stay on this host, or leave the mesh, are judged here: no other agent sees them. */
  reconsider(isUnderWay: boolean): Refusal | null {
    const endpoint = this.#tried.at(-1)
    const called = this.#called
    if (!isUnderWay || called === null || this.source === null) return null
    if (endpoint === undefined || endpoint.place.kind === 'far') return null
    const verdict = this.#judge(called, endpoint, this.source)
    return verdict.kind === 'denied' ? verdict.refusal : null
  }

  rest(): void {
    this.#request = null
    this.#called = null
    this.#lookedFor = null
    this.#tried = none
  }

  /**
   * Instances of this host that are full are passed over, as their own agent would pass them over;
   * one that is full is picked where none is left.
   */
  #pick(picker: CallableService['picker'], tried: readonly MeshEndpoint[]): MeshEndpoint | null {
    const { clock, random } = this.#parts
    const now = clock.elapsed()
    let avoid = tried
    let endpoint = picker.pick(now, random, avoid)
    while (endpoint?.isFull === true && !avoid.includes(endpoint)) {
      avoid = avoid.length === 0 ? endpoint.alone : [...avoid, endpoint]
      endpoint = picker.pick(now, random, avoid)
    }
    return endpoint
  }

  #decision(called: CallableService, endpoint: MeshEndpoint, source: SpiffeId): Decision {
    switch (endpoint.place.kind) {
      case 'far':
        return forward(called, endpoint, source, permitToCarry())
      // Nobody else judges what leaves the mesh.
      case 'external':
      case 'local': {
        const verdict = this.#judge(called, endpoint, source)
        if (verdict.kind === 'permitted') return forward(called, endpoint, source, verdict.permit)
        const { reason, detail, ref } = verdict.refusal
        return { ...refuse(reason, detail, called.view.target, called), rule: ref }
      }
    }
  }

  #judge(called: CallableService, { place }: MeshEndpoint, source: SpiffeId): Verdict {
    const { port } = judgedAt(place as Exclude<Place, { kind: 'far' }>)
    const request = this.#request
    const caller = this.#parts.policies
      .of(called.view.service)
      .forCaller(source, port, request !== null)
    return request !== null && caller.isOpen
      ? caller.judge(new RequestView(request))
      : caller.connection
  }
}

/** What has the port that policy is asked about. */
function judgedAt(place: Exclude<Place, { kind: 'far' }>): { readonly port: Port } {
  return place.kind === 'local' ? place.instance : place.service
}

/** The decision to forward, the same object as long as it says the same. */
function forward(
  called: CallableService,
  endpoint: MeshEndpoint,
  source: SpiffeId,
  permit: Permit,
): Decision {
  const known = endpoint.decisions.get(source)
  if (known?.permit === permit) return known
  const decision = {
    kind: 'forward',
    upstream: endpoint.upstreamFor(source),
    permit,
    service: called.view.service,
    destination: called.id,
  } as const
  endpoint.decisions.set(source, decision)
  return decision
}

function unknown(name: TargetName): string {
  return name.includes('.')
    ? `no host has registered a port ${name}`
    : `no host has registered a service ${name}`
}

function refuse(
  reason: Reason,
  detail: string,
  target: TargetName | null,
  called?: CallableService,
): Extract<Decision, { kind: 'refuse' }> {
  const service = target === null ? null : serviceOfTarget(target)
  return { kind: 'refuse', reason, detail, service, destination: called?.id ?? null, rule: null }
}
