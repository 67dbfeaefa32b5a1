/**
 * Owns the way of a channel back to its pool. It lies here until the end of the event-loop turn: only
 * then has everything been read that came together with the response, and a byte too many must never
 * be taken for the answer to the next request (response-queue poisoning).
 */

import type { Channel, ChannelSink } from '#agent/platform.ts'
import { nobody } from './silence.ts'
import type { Upstream } from './upstream.ts'

let waiting: GivingBack[] = []

function giveAll(): void {
  const all = waiting
  waiting = []
  for (const one of all) one.give()
}

/** Gives a channel back, unless something comes from it within this turn. */
export function giveBack(channel: Channel, upstream: Upstream): void {
  if (waiting.length === 0) setImmediate(giveAll)
  waiting.push(new GivingBack(channel, upstream))
}

/** A channel on its way back. */
class GivingBack implements ChannelSink {
  readonly #channel: Channel
  readonly #upstream: Upstream
  #spoilt = false

  constructor(channel: Channel, upstream: Upstream) {
    this.#channel = channel
    this.#upstream = upstream
    channel.sink = this
    channel.resume()
  }

  give(): void {
    if (this.#spoilt) {
      this.#channel.sink = nobody
      this.#channel.abort()
    } else this.#upstream.release(this.#channel)
  }

  onData(): void {
    this.#spoilt = true
  }

  onEnd(): void {
    this.#spoilt = true
  }

  onDrain(): void {}

  onClose(): void {
    this.#spoilt = true
  }
}
