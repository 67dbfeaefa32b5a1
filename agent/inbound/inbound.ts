/**
 * Owns the journey of a call on the callee's side, in flow order: take the stream, find the local
 * instance, authorise the proven peer, reach the instance, and only then grant the stream. From
 * there HTTP goes request by request, TCP as it comes.
 */

import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Channel, ChannelSink, Clock, Opener, Random } from '#agent/platform.ts'
import { HttpRelay, httpRelayDefaults, type HttpRelaySettings } from '#agent/relay/http-relay.ts'
import type { RelayWatch } from '#agent/relay/relay-watch.ts'
import { statusOf } from '#agent/relay/replies.ts'
import { discard } from '#agent/relay/silence.ts'
import { TcpRelay } from '#agent/relay/tcp-relay.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'
import type { IncomingCall } from '#agent/tunnel/tunnel-listener.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { RuleRef } from '#shared/model/policy.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Refusal } from '#shared/policy/refusal.ts'
import { AnswerSteps, fullness } from './answer-steps.ts'
import type { LocalInstances, LocalUpstream, ReachableInstance } from './local-instances.ts'

/** What the journey leans on. */
export interface InboundParts {
  readonly instances: LocalInstances
  readonly outcomes: OutcomeSink
  readonly watch: RelayWatch
  readonly clock: Clock
  readonly random: Random
  readonly counters: Pick<TrafficCounters, 'tally'>
  /** Bounds what waits here, shared with all that waits. */
  readonly held?: HeldBytes
}

/**
 * Authority of a CONNECT between agents: `<instance>.<service>.mesh:<port>`, and for a named port
 * `<instance>.<name>.<service>.mesh:<port>`. The name counts: a number may be that of a moment ago.
 */
const authorityShape =
  /^([a-z0-9-]{1,63})\.(?:([a-z][a-z0-9-]{0,62})\.)?([a-z0-9-]{1,63})\.mesh:[0-9]{1,5}$/

/** What an authority names; empty where it has not its shape. */
interface Whither {
  readonly id: string
  readonly portName: string
  /** The service. */
  readonly named: string
}

/** Most authorities that are remembered; a peer may name any. */
const mostKnown = 1024

interface ArrivalSettings {
  readonly relay: HttpRelaySettings
}

/** See the header. */
export class Inbound {
  readonly #parts: InboundParts & ArrivalSettings
  readonly #known = new Map<string, Whither>()

  constructor(parts: InboundParts, settings: ArrivalSettings = { relay: httpRelayDefaults }) {
    this.#parts = { ...parts, ...settings }
  }

  /** Takes a stream that a far agent opened; its peer is proven by mTLS. */
  accept(call: IncomingCall): void {
    const { peer, service, authority, stream } = call
    const { id, portName, named } = this.#whither(authority)
    if (named !== service) {
      // The certificate shown was that of the service in SNI; no other may be reached behind it.
      this.#refuse(call, null, 'bad-request', `${authority} is no instance of ${service}`)
      return
    }
    const instance = this.#parts.instances.find(service, id, portName)
    if (instance === null || instance.view.draining) {
      this.#refuse(
        call,
        instance,
        'draining',
        `this host has no instance ${id} of ${portName && `${portName}.`}${service} any more`,
      )
      return
    }
    const steps = new AnswerSteps({
      instance,
      source: peer,
      onFull: () => tallyFull(this.#parts),
    })
    const verdict = steps.connection
    if (verdict.kind === 'denied') {
      deny(this.#parts, call, instance, verdict.refusal)
      return
    }
    if (instance.view.protocol === 'tcp' && instance.load.isFull) {
      tallyFull(this.#parts)
      this.#refuse(call, instance, 'overloaded', fullness(instance))
      return
    }
    const upstream = instance.upstreamFor(peer)
    const arrival = new Arrival(this.#parts, call, instance, upstream, steps)
    // A service that speaks first or is asked first: either way it must be there before we say so.
    const idle = instance.view.protocol === 'http' ? upstream.takeIdle() : null
    if (idle === null) {
      stream.sink = arrival
      upstream.open(arrival)
    } else {
      upstream.release(idle)
      arrival.grant(null)
    }
  }

  /** Streams mostly go where others went a moment ago. */
  #whither(authority: string): Whither {
    const known = this.#known.get(authority)
    if (known !== undefined) return known
    const [, id = '', portName = '', named = ''] = authorityShape.exec(authority) ?? []
    const whither = { id, portName, named }
    // What names nothing may be as long as a header section.
    if (named === '') return whither
    if (this.#known.size >= mostKnown) this.#known.clear()
    this.#known.set(authority, whither)
    return whither
  }

  #refuse(
    call: IncomingCall,
    instance: ReachableInstance | null,
    reason: Reason,
    detail: string,
  ): void {
    call.stream.refuse(statusOf(reason), reason, detail)
    recordRefusal(this.#parts, call, instance, reason, null)
  }
}

function deny(
  parts: InboundParts,
  call: IncomingCall,
  instance: ReachableInstance,
  { reason, detail, ref }: Refusal,
): void {
  call.stream.refuse(statusOf(reason), reason, detail)
  recordRefusal(parts, call, instance, reason, ref)
}

function tallyFull({ counters }: InboundParts): void {
  counters.tally(agentMetrics.limitRefusals.name, { limit: 'maxConcurrent' })
}

function recordRefusal(
  parts: InboundParts,
  call: IncomingCall,
  instance: ReachableInstance | null,
  reason: Reason,
  rule: RuleRef | null,
): void {
  parts.outcomes.record({
    direction: 'inbound',
    protocol: 'tcp',
    source: call.peer,
    destination: instance?.id ?? null,
    service: call.service,
    host: instance?.host ?? null,
    instance: instance?.view.id ?? null,
    method: '',
    path: '',
    status: 0,
    reason,
    rule,
    bytesFromCaller: 0,
    bytesToCaller: 0,
    startedAt: parts.clock.now(),
    durationMs: 0,
    attempts: 0,
    mtls: true,
    requestId: '',
  })
}

/** A stream that waits for its instance. */
class Arrival implements Opener, ChannelSink {
  readonly #parts: InboundParts & ArrivalSettings
  readonly #call: IncomingCall
  readonly #instance: ReachableInstance
  readonly #upstream: LocalUpstream
  readonly #steps: AnswerSteps
  #gone = false
  /** A raw connection counts from here to its end; requests count one by one. */
  #counts: boolean

  constructor(
    parts: InboundParts & ArrivalSettings,
    call: IncomingCall,
    instance: ReachableInstance,
    upstream: LocalUpstream,
    steps: AnswerSteps,
  ) {
    this.#parts = parts
    this.#call = call
    this.#instance = instance
    this.#upstream = upstream
    this.#steps = steps
    this.#counts = instance.view.protocol === 'tcp'
    if (this.#counts) upstream.started()
  }

  onOpen(channel: Channel): void {
    if (this.#gone) discard(channel)
    else this.grant(channel)
  }

  onOpenFailed(reason: Reason, detail: string): void {
    this.#finish()
    if (this.#gone) return
    this.#gone = true
    this.#call.stream.refuse(statusOf(reason), reason, detail)
    recordRefusal(this.#parts, this.#call, this.#instance, reason, null)
  }

  /** Says yes and relays; `channel` is the connection that proved the instance is there, if new. */
  grant(channel: Channel | null): void {
    const { outcomes, watch, clock, random, held, relay } = this.#parts
    const { stream, peer } = this.#call
    const steps = this.#steps
    // Policy may have changed while the instance was being reached.
    const verdict = steps.connection
    if (verdict.kind === 'denied') {
      this.#gone = true
      this.#finish()
      // Nobody would take it from the pool where the service is a raw one.
      if (channel !== null) discard(channel)
      deny(this.#parts, this.#call, this.#instance, verdict.refusal)
      return
    }
    stream.accept()
    if (this.#instance.view.protocol === 'http') {
      if (channel !== null) this.#upstream.release(channel)
      new HttpRelay({ caller: stream, steps, outcomes, watch, clock, random, held }, relay).start()
      return
    }
    if (channel === null) return
    const recorded: OutcomeSink = {
      record: (outcome) => {
        this.#finish()
        outcomes.record(outcome)
      },
    }
    new TcpRelay(
      { caller: stream, service: channel, outcomes: recorded, watch, clock, steps },
      tcpFacts(this.#instance, peer),
      verdict.permit,
    ).start()
  }

  onData(): void {
    // RFC 9110 §9.3.6: nothing may be sent before the stream is granted.
    this.#leave('bad-request')
    this.#call.stream.abort()
  }

  onEnd(): void {}
  onDrain(): void {}

  onClose(): void {
    this.#leave('caller-aborted')
  }

  /** The caller is gone, or is sent away, before the instance has answered. */
  #leave(reason: Reason): void {
    if (this.#gone) return
    this.#gone = true
    this.#finish()
    recordRefusal(this.#parts, this.#call, this.#instance, reason, null)
  }

  #finish(): void {
    if (!this.#counts) return
    this.#counts = false
    this.#upstream.finished('ok')
  }
}

function tcpFacts(instance: ReachableInstance, peer: SpiffeId) {
  return {
    direction: 'inbound',
    source: peer,
    destination: instance.id,
    service: instance.view.service,
    host: instance.host,
    instance: instance.view.id,
    mtls: true,
    attempts: 1,
  } as const
}
