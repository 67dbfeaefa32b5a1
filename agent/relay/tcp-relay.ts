/**
 * Owns a raw connection between a caller and an instance: bytes both ways as they come, half-closes
 * passed on, backpressure from the slower side, one record at the end. It demands a permit.
 */

import type { Channel, ChannelError, ChannelSink, Clock } from '#agent/platform.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { HostName, InstanceId, ServiceName } from '#shared/model/names.ts'
import type { Direction } from '#shared/model/outcome.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Permit } from '#shared/policy/permit.ts'
import type { RelayWatch, Watched } from './relay-watch.ts'

/** What is known of the connection, for its record. */
export interface TcpRelayFacts {
  readonly direction: Direction
  readonly source: SpiffeId | null
  readonly destination: SpiffeId | null
  readonly service: ServiceName | null
  readonly host: HostName | null
  readonly instance: InstanceId | null
  readonly mtls: boolean
  readonly attempts: number
}

class Side implements ChannelSink {
  readonly relay: TcpRelay
  readonly own: Channel
  readonly other: Channel
  readonly isCaller: boolean
  bytes = 0
  ended = false
  gone = false
  constructor(relay: TcpRelay, own: Channel, other: Channel, isCaller: boolean) {
    this.relay = relay
    this.own = own
    this.other = other
    this.isCaller = isCaller
  }
  onData(chunk: Buffer): void {
    this.bytes += chunk.length
    if (!this.other.write(chunk)) this.own.pause()
  }
  onEnd(): void {
    this.ended = true
    this.other.end()
  }
  onDrain(): void {
    this.other.resume()
  }
  onClose(error: ChannelError | null): void {
    this.gone = true
    this.relay.sideClosed(this, error)
  }
}

/** See the header. */
export class TcpRelay implements Watched {
  readonly #caller: Side
  readonly #service: Side
  readonly #parts: {
    readonly outcomes: OutcomeSink
    readonly watch: RelayWatch
    readonly clock: Clock
  }
  readonly #facts: TcpRelayFacts
  readonly #startedAt: number
  readonly #startedElapsed: number
  #reason: Reason | null = null
  readonly deadline = Infinity

  constructor(
    parts: {
      readonly caller: Channel
      readonly service: Channel
      readonly outcomes: OutcomeSink
      readonly watch: RelayWatch
      readonly clock: Clock
    },
    facts: TcpRelayFacts,
    _permit: Permit,
  ) {
    this.#parts = parts
    this.#facts = facts
    this.#startedAt = parts.clock.now()
    this.#startedElapsed = parts.clock.elapsed()
    this.#caller = new Side(this, parts.caller, parts.service, true)
    this.#service = new Side(this, parts.service, parts.caller, false)
  }

  /** Begins to copy; both channels are its own from here on. */
  start(): void {
    this.#parts.watch.add(this)
    this.#caller.own.sink = this.#caller
    this.#service.own.sink = this.#service
    this.#caller.own.resume()
  }

  expired(): void {}

  /** A raw connection has no seam to end at: it goes on until its ends close it. */
  drain(): void {}

  /** For the sides: one of them is gone. */
  sideClosed(side: Side, error: ChannelError | null): void {
    const other = side === this.#caller ? this.#service : this.#caller
    if (error !== null) {
      this.#reason ??= side.isCaller
        ? 'caller-aborted'
        : this.#facts.mtls
          ? 'tunnel-lost'
          : 'instance-aborted'
      other.own.abort()
    } else if (!side.ended) other.own.end()
    if (!other.gone && error === null) return
    this.#finish()
  }

  #finish(): void {
    const { outcomes, watch, clock } = this.#parts
    watch.remove(this)
    outcomes.record({
      ...this.#facts,
      protocol: 'tcp',
      method: '',
      path: '',
      status: 0,
      reason: this.#reason ?? 'ok',
      bytesFromCaller: this.#caller.bytes,
      bytesToCaller: this.#service.bytes,
      startedAt: this.#startedAt,
      durationMs: clock.elapsed() - this.#startedElapsed,
      requestId: '',
    })
    this.#caller.own.sink = nobody
    this.#service.own.sink = nobody
  }
}

const nobody: ChannelSink = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }
