/**
 * Owns the journey of a call on the caller's side, in flow order: accept, identify the caller, know
 * the service, or wait until it is known, then for HTTP every request by its steps, for TCP one connection.
 * It moves no bytes and speaks to no store.
 */

import type { Socket } from 'node:net'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Channel, Clock, Random } from '#agent/platform.ts'
import { readBufferOf } from '#agent/relay/accepted-sockets.ts'
import { HttpRelay, httpRelayDefaults, type HttpRelaySettings } from '#agent/relay/http-relay.ts'
import type { RelayWatch } from '#agent/relay/relay-watch.ts'
import { nobody } from '#agent/relay/silence.ts'
import { SocketChannel } from '#agent/relay/socket-channel.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { serviceOfTarget, type TargetName } from '#shared/model/target.ts'
import type { PolicyTable } from '#shared/policy/policy-table.ts'
import { CallSteps } from './call-steps.ts'
import type { Lookups } from './lookups.ts'
import type { RefusedCallers } from './refused-callers.ts'
import type { ServiceTable } from './service-table.ts'
import { TcpCall } from './tcp-call.ts'
import { UnknownCall } from './unknown-call.ts'

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

/** See the header. */
export class Outbound {
  readonly #parts: OutboundParts
  readonly #relay: HttpRelaySettings
  /** Connections that wait until their target is known. */
  readonly #unknown = new Set<UnknownCall>()

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
    if (found === null) this.#acceptUnknown(target, socket)
    else if (found.view.protocol === 'http') this.#acceptHttp(target, socket)
    else {
      // The address is asked of the kernel only for what is told of it, in a request's fields.
      const steps = this.#stepsOf(target, socket, '')
      this.#carry(target, this.#channelOf(socket), steps)
    }
  }

  /** Takes a connection to the forward proxy: each request names its service. */
  acceptProxy(socket: Socket): void {
    this.#acceptHttp(null, socket)
  }

  /** There is a new view: who waits for what it has may go on. */
  lookAgain(): void {
    for (const call of this.#unknown) call.lookAgain()
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
    const steps = this.#stepsOf(target, socket, plainAddress(socket))
    this.#serve(this.#channelOf(socket), steps)
  }

  #acceptUnknown(target: TargetName, socket: Socket): void {
    const { services, clock, watch, held } = this.#parts
    const caller = this.#channelOf(socket)
    const steps = this.#stepsOf(target, socket, plainAddress(socket))
    const startedAt = clock.elapsed()
    const call = new UnknownCall({
      caller,
      watch,
      held,
      protocol: () => services.find(target)?.view.protocol ?? null,
      look: (done) => steps.lookFor(target, done),
      goOn: (protocol) => {
        this.#unknown.delete(call)
        if (protocol === 'tcp') this.#carry(target, caller, steps, startedAt)
        else {
          caller.resume()
          this.#serve(caller, steps)
        }
      },
    })
    this.#unknown.add(call)
    call.start()
  }

  #carry(target: TargetName, caller: Channel, steps: CallSteps, startedAt?: number): void {
    const { outcomes, watch, clock } = this.#parts
    new TcpCall({ caller, steps, outcomes, watch, clock }, { startedAt }).start(target)
  }

  #serve(caller: Channel, steps: CallSteps): void {
    const { outcomes, watch, clock, random, held } = this.#parts
    new HttpRelay({ caller, steps, outcomes, watch, clock, random, held }, this.#relay).start()
  }

  #stepsOf(target: TargetName | null, socket: Socket, callerAddress: string): CallSteps {
    const source = this.#parts.callerOf(socket)
    return new CallSteps(this.#parts, { target, source, callerAddress })
  }

  #channelOf(socket: Socket): Channel {
    return new SocketChannel(socket, nobody, this.#parts.held, readBufferOf(socket))
  }
}

function plainAddress(socket: Socket): string {
  const address = socket.remoteAddress ?? ''
  return address.startsWith('::ffff:') ? address.slice(7) : address
}
