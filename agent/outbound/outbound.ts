/**
 * Owns the journey of a call on the caller's side, in flow order: accept, identify the caller, know
 * the service, then for HTTP every request by its steps, for TCP one connection. It moves no bytes
 * and speaks to no store.
 */

import type { Socket } from 'node:net'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Channel, ChannelSink, Clock, Opener, Random } from '#agent/platform.ts'
import { readBufferOf } from '#agent/relay/accepted-sockets.ts'
import { HttpRelay, httpRelayDefaults, type HttpRelaySettings } from '#agent/relay/http-relay.ts'
import type { RelayWatch } from '#agent/relay/relay-watch.ts'
import { SocketChannel } from '#agent/relay/socket-channel.ts'
import { TcpRelay } from '#agent/relay/tcp-relay.ts'
import type { AttemptResult, Decision, Upstream } from '#agent/relay/upstream.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'
import type { RuleRef } from '#shared/model/policy.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { serviceOfTarget, type TargetName } from '#shared/model/target.ts'
import type { PolicyTable } from '#shared/policy/policy-table.ts'
import { CallSteps } from './call-steps.ts'
import type { Lookups } from './lookups.ts'
import type { RefusedCallers } from './refused-callers.ts'
import type { ServiceTable } from './service-table.ts'

/** What the journey leans on. */
export interface OutboundParts {
  readonly services: ServiceTable
  readonly policies: Pick<PolicyTable, 'of'>
  readonly outcomes: OutcomeSink
  readonly watch: RelayWatch
  readonly clock: Clock
  readonly random: Random
  readonly counters: Pick<TrafficCounters, 'tally'>
  /** Bounds what waits for slow callers or their turn, shared with all that waits. */
  readonly held?: HeldBytes
  /** Who calls through a listener; the host itself, until the kernel tells callers apart. */
  readonly callerOf: (socket: Socket) => SpiffeId | null
  readonly refused: Pick<RefusedCallers, 'refuse'>
  /** Looks for services the snapshot does not have. @default it has all there are */
  readonly lookups?: Pick<Lookups, 'isOnDemand' | 'look'>
}

/** Reasons that are the caller's or this side's, not the instance's. */
const ownFault: ReadonlySet<Reason> = new Set(['policy-denied', 'no-credential', 'overloaded'])

/** Holds back what a caller sends before anybody may read it. */
const nobody: ChannelSink = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }

/** See the header. */
export class Outbound {
  readonly #parts: OutboundParts
  readonly #relay: HttpRelaySettings

  constructor(
    parts: OutboundParts,
    settings: { readonly relay: HttpRelaySettings } = { relay: httpRelayDefaults },
  ) {
    this.#parts = parts
    this.#relay = settings.relay
  }

  /** Takes a connection to the listener of one target. */
  acceptFor(target: TargetName, socket: Socket): void {
    const found = this.#parts.services.find(target)
    if (found?.view.protocol === 'tcp') this.#acceptTcp(target, socket)
    else this.#acceptHttp(target, socket)
  }

  /** Takes a connection to the forward proxy: each request names its service. */
  acceptProxy(socket: Socket): void {
    this.#acceptHttp(null, socket)
  }

  /** Refuses a connection to the listener of one target, or to the forward proxy: one too many. */
  refuseFor(target: TargetName | null, socket: Socket): void {
    const found = target === null ? null : this.#parts.services.find(target)
    this.#parts.refused.refuse(socket, {
      protocol: found?.view.protocol ?? 'http',
      service: target === null ? null : serviceOfTarget(target),
      destination: found?.id ?? null,
      source: this.#parts.callerOf(socket),
    })
  }

  #acceptHttp(target: TargetName | null, socket: Socket): void {
    const { outcomes, watch, clock, random, held, callerOf } = this.#parts
    const source = callerOf(socket)
    const steps = new CallSteps(this.#parts, {
      target,
      source,
      callerAddress: plainAddress(socket),
    })
    const caller = new SocketChannel(socket, nobody, held, readBufferOf(socket))
    new HttpRelay({ caller, steps, outcomes, watch, clock, random, held }, this.#relay).start()
  }

  #acceptTcp(target: TargetName, socket: Socket): void {
    const steps = new CallSteps(this.#parts, {
      target,
      source: this.#parts.callerOf(socket),
      // Asked of the kernel only for what is told of it, in a request's fields.
      callerAddress: '',
    })
    const caller = new SocketChannel(socket, nobody, this.#parts.held, readBufferOf(socket))
    caller.pause()
    new TcpCall(this.#parts, caller, steps).start(target)
  }
}

/** A raw connection until its upstream is open. */
class TcpCall implements Opener, ChannelSink {
  readonly #parts: OutboundParts
  readonly #caller: Channel
  readonly #steps: CallSteps
  readonly #startedAt: number
  #decision: Decision | null = null
  #upstream: Upstream | null = null
  #attempts = 0
  #over = false

  constructor(parts: OutboundParts, caller: Channel, steps: CallSteps) {
    this.#parts = parts
    this.#caller = caller
    this.#steps = steps
    this.#startedAt = parts.clock.elapsed()
    caller.sink = this
  }

  start(target: TargetName): void {
    const decision = this.#steps.decideTarget(target)
    this.#decision = decision
    if (decision.kind === 'refuse') this.#refuse(decision.reason, decision.rule)
    else this.#attempt(decision.upstream)
  }

  onOpen(channel: Channel): void {
    const decision = this.#decision
    const upstream = this.#upstream
    if (this.#over || decision?.kind !== 'forward' || upstream === null) {
      channel.sink = nobody
      channel.abort()
      return
    }
    this.#over = true
    new TcpRelay(
      {
        caller: this.#caller,
        service: channel,
        outcomes: {
          record: (outcome) => {
            upstream.finished(resultOf(outcome))
            this.#parts.outcomes.record(outcome)
          },
        },
        watch: this.#parts.watch,
        clock: this.#parts.clock,
        steps: this.#steps,
      },
      {
        direction: 'outbound',
        source: this.#steps.source,
        destination: decision.destination,
        service: decision.service,
        host: upstream.host,
        instance: upstream.instance,
        mtls: upstream.mtls,
        attempts: this.#attempts,
      },
      decision.permit,
    ).start()
  }

  onOpenFailed(reason: Reason): void {
    if (this.#over) return
    const failed = this.#upstream as Upstream
    // A refusal for the caller's sake says nothing against the instance.
    failed.finished(ownFault.has(reason) ? 'abandoned' : 'connect-failed')
    const next =
      this.#attempts < httpRelayDefaults.maxAttempts ? this.#steps.again(failed, reason) : null
    if (next === null) this.#refuse(reason)
    else this.#attempt(next)
  }

  onData(): void {}
  onEnd(): void {}
  onDrain(): void {}

  onClose(): void {
    if (this.#over) return
    this.#upstream?.finished('abandoned')
    this.#refuse('caller-aborted')
  }

  #attempt(upstream: Upstream): void {
    this.#attempts++
    this.#upstream = upstream
    upstream.started()
    upstream.open(this)
  }

  #refuse(reason: Reason, rule: RuleRef | null = null): void {
    this.#over = true
    this.#caller.abort()
    const { clock, outcomes } = this.#parts
    const durationMs = clock.elapsed() - this.#startedAt
    outcomes.record({
      direction: 'outbound',
      protocol: 'tcp',
      source: this.#steps.source,
      destination: this.#decision?.destination ?? null,
      service: this.#decision?.service ?? null,
      host: this.#upstream?.host ?? null,
      instance: this.#upstream?.instance ?? null,
      method: '',
      path: '',
      status: 0,
      reason,
      rule,
      bytesFromCaller: 0,
      bytesToCaller: 0,
      startedAt: clock.now() - durationMs,
      durationMs,
      attempts: this.#attempts,
      mtls: this.#upstream?.mtls ?? false,
      requestId: '',
    })
  }
}

/** A raw connection that is lost later than this has served. */
const youngMs = 5000

/**
 * What the end of a raw connection says of its instance. One that has spoken, or has listened for long, and
 * is cut may have done all it had to, or policy, or an agent that is replaced, has cut it.
 */
function resultOf({ reason, bytesToCaller, durationMs }: Outcome): AttemptResult {
  if (reason === 'ok') return 'ok'
  const isLost = reason === 'instance-aborted' || reason === 'tunnel-lost'
  return isLost && bytesToCaller === 0 && durationMs < youngMs ? 'reset' : 'abandoned'
}

function plainAddress(socket: Socket): string {
  const address = socket.remoteAddress ?? ''
  return address.startsWith('::ffff:') ? address.slice(7) : address
}
