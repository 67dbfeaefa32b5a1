/**
 * Owns the caller side's steps: route, policy and balance of one caller connection. Decisions are
 * made once per (service, caller, instance) and used again, so that a request allocates none.
 */

import type { RequestHead } from '#agent/http1/head.ts'
import type { Clock, Random } from '#agent/platform.ts'
import type { HttpSteps } from '#agent/relay/steps.ts'
import type { Decision, Upstream } from '#agent/relay/upstream.ts'
import type { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { authorise, permitToCarry } from '#shared/policy/authorise.ts'
import { serviceOfAuthority } from '#shared/route/mesh-name.ts'
import type { MeshEndpoint } from './mesh-endpoint.ts'
import type { CallableService, ServiceTable } from './service-table.ts'

/** What steps lean on. */
export interface CallStepsParts {
  readonly services: Pick<ServiceTable, 'find'>
  readonly clock: Clock
  readonly random: Random
  readonly counters: Pick<TrafficCounters, 'tally'>
}

/** Settings of one caller connection. */
export interface CallStepsSettings {
  /** The service its listener belongs to; null where each request names one. */
  readonly service: ServiceName | null
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
])

/** Nothing was tried yet. */
const none: readonly MeshEndpoint[] = []

/** See the header. */
export class CallSteps implements HttpSteps {
  readonly direction = 'outbound'
  readonly mtls = false
  readonly source: SpiffeId | null
  readonly callerAddress: string
  readonly #parts: CallStepsParts
  readonly #service: ServiceName | null
  /** Of the call under way. */
  #called: CallableService | null = null
  /** The endpoints that were tried, the last one at the end. */
  #tried: readonly MeshEndpoint[] = []

  constructor(parts: CallStepsParts, settings: CallStepsSettings) {
    this.#parts = parts
    this.#service = settings.service
    this.source = settings.source
    this.callerAddress = settings.callerAddress
  }

  decide(head: RequestHead): Decision {
    if (this.#service !== null) return this.decideService(this.#service)
    const named = serviceOfAuthority(head.authority)
    if (!named.ok) return refuse('not-mesh-name', named.problem, null)
    return this.decideService(named.value)
  }

  /** Policy and balance, where the service is known. */
  decideService(name: ServiceName): Decision {
    const called = this.#parts.services.find(name)
    if (called === null) {
      return refuse('unknown-service', `no host has registered a service ${name}`, name)
    }
    this.#called = called
    const { source } = this
    if (source === null) {
      return refuse(
        'no-credential',
        'this host has no identity yet: see meshctl check',
        name,
        called,
      )
    }
    const endpoint = called.picker.pick(this.#parts.clock.elapsed(), this.#parts.random, none)
    if (endpoint === null) {
      return refuse('no-instances', `no instance of ${name} is in rotation`, name, called)
    }
    called.budget.requested()
    this.#tried = endpoint.alone
    return this.#decision(called, endpoint, source)
  }

  again(_failed: Upstream, reason: Reason): Upstream | null {
    const called = this.#called
    if (called === null || this.source === null || !elsewhere.has(reason)) return null
    const now = this.#parts.clock.elapsed()
    if (!called.budget.spend(now)) return null
    const { picker } = this.#parts.services.find(called.view.name) ?? called
    const endpoint = picker.pick(now, this.#parts.random, this.#tried)
    if (endpoint === null) return null
    this.#tried = [...this.#tried, endpoint]
    this.#parts.counters.tally(agentMetrics.retries.name, { destination: called.id, reason })
    const decision = this.#decision(called, endpoint, this.source)
    return decision.kind === 'forward' ? decision.upstream : null
  }

  #decision(called: CallableService, endpoint: MeshEndpoint, source: SpiffeId): Decision {
    const known = endpoint.decisions.get(source)
    if (known !== undefined) return known
    const decision = decisionOf(called, endpoint, source)
    endpoint.decisions.set(source, decision)
    return decision
  }
}

function decisionOf(called: CallableService, endpoint: MeshEndpoint, source: SpiffeId): Decision {
  const { name } = called.view
  switch (endpoint.place.kind) {
    case 'far':
      return {
        kind: 'forward',
        upstream: endpoint.upstreamFor(source),
        permit: permitToCarry(),
        service: name,
        destination: called.id,
      }
    case 'local': {
      const verdict = authorise(source, called.id)
      return verdict.kind === 'permitted'
        ? {
            kind: 'forward',
            upstream: endpoint.upstreamFor(source),
            permit: verdict.permit,
            service: name,
            destination: called.id,
          }
        : refuse('policy-denied', `${verdict.rule}: ${verdict.detail}`, name, called)
    }
  }
}

function refuse(
  reason: Reason,
  detail: string,
  service: ServiceName | null,
  called?: CallableService,
): Decision {
  return { kind: 'refuse', reason, detail, service, destination: called?.id ?? null }
}
