/**
 * Owns two channels joined into one connection: bytes both ways as they come, half-closes passed on,
 * backpressure from the slower side, and the end told once. What the bytes mean is not its business.
 */

import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'
import type { RelayWatch, Watched } from './relay-watch.ts'
import { nobody } from './silence.ts'

/** How a spliced connection ended: by goodbyes of both sides, the loss of one, or by policy. */
export type SpliceEnd = 'clean' | 'caller-lost' | 'service-lost' | 'denied'

/** Is told of the end, once. */
export interface SpliceOwner {
  spliceOver(end: SpliceEnd, bytesFromCaller: number, bytesToCaller: number): void
  /** Whether policy still allows the connection; asked after policy has changed. */
  stillAllowed(): boolean
}

/** How long one side is waited for when the other has gone for good, and has been read to its end. */
const partingMs = 5000
/** How long it may take to read what the other side has left behind. */
const slowReaderMs = 300_000

/** One side of a splice. */
class Side implements ChannelSink {
  readonly channel: Channel
  readonly #splice: Splice
  /** The other side; set as soon as there is one. */
  other: Side = this
  bytes = 0
  ended = false
  gone = false
  /** Whether its channel was told that no more comes, and whether all before that is out. */
  finished: 'no' | 'told' | 'out' = 'no'

  constructor(splice: Splice, channel: Channel) {
    this.#splice = splice
    this.channel = channel
  }

  onData(chunk: Buffer): void {
    this.bytes += chunk.length
    if (!this.other.channel.write(chunk)) this.channel.pause()
  }

  onEnd(): void {
    this.ended = true
    this.other.finish()
  }

  /** Half-closes its channel. */
  finish(): void {
    if (this.finished !== 'no') return
    this.finished = 'told'
    this.channel.end()
  }

  onDrain(): void {
    if (this.finished === 'told') {
      this.finished = 'out'
      this.#splice.sideFinished(this)
    }
    this.other.channel.resume()
  }

  onClose(error: ChannelError | null): void {
    this.gone = true
    this.#splice.sideClosed(this, error)
  }
}

/** See the header. */
export class Splice implements Watched {
  readonly #caller: Side
  readonly #service: Side
  readonly #watch: RelayWatch
  readonly #owner: SpliceOwner
  deadline = Infinity

  constructor(parts: {
    readonly caller: Channel
    readonly service: Channel
    readonly watch: RelayWatch
    readonly owner: SpliceOwner
  }) {
    this.#watch = parts.watch
    this.#owner = parts.owner
    this.#caller = new Side(this, parts.caller)
    this.#service = new Side(this, parts.service)
    this.#caller.other = this.#service
    this.#service.other = this.#caller
  }

  /**
   * Begins; both channels are its own from here on.
   * @param early bytes that were read off the channels before
   */
  start(
    early: { readonly fromCaller: Buffer | null; readonly fromService: Buffer | null } | null,
  ): void {
    this.#watch.add(this)
    this.#caller.channel.sink = this.#caller
    this.#service.channel.sink = this.#service
    if (this.#caller.channel.closed || this.#service.channel.closed) {
      this.#over(this.#caller.channel.closed ? 'caller-lost' : 'service-lost')
      return
    }
    this.#caller.channel.resume()
    this.#service.channel.resume()
    if (early === null) return
    if (early.fromCaller !== null) this.#caller.onData(early.fromCaller)
    if (early.fromService !== null) this.#service.onData(early.fromService)
  }

  /** The side that was waited for has not gone. */
  expired(): void {
    this.#over('clean')
  }

  /** A raw connection has no seam to end at: it goes on until its ends close it. */
  drain(): void {}

  reconsider(): void {
    if (!this.#owner.stillAllowed()) this.#over('denied')
  }

  /** For the sides: one of them is gone. */
  sideClosed(side: Side, error: ChannelError | null): void {
    const { other } = side
    if (error !== null) this.#over(side === this.#caller ? 'caller-lost' : 'service-lost')
    else if (other.gone) this.#over('clean')
    else {
      other.finish()
      other.channel.resume()
      this.#wait(other)
    }
  }

  /** For the sides: all that was to be written to one of them is out. */
  sideFinished(side: Side): void {
    if (side.other.gone) this.#wait(side)
  }

  /** For the side that is left. */
  #wait(side: Side): void {
    this.deadline = this.#watch.deadlineIn(side.finished === 'out' ? partingMs : slowReaderMs)
  }

  #over(end: SpliceEnd): void {
    this.#watch.remove(this)
    for (const { channel } of [this.#caller, this.#service]) {
      channel.sink = nobody
      channel.abort()
    }
    this.#owner.spliceOver(end, this.#caller.bytes, this.#service.bytes)
  }
}
