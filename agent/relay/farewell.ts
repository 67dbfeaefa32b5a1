/**
 * Owns the goodbye of a channel that nobody will use again: what was written still goes out, nothing
 * more is taken, and a far side that does not say goodbye in time is cut off.
 */

import type { Channel, ChannelSink } from '#agent/platform.ts'
import type { RelayWatch, Watched } from './relay-watch.ts'
import { nobody } from './silence.ts'

/** See the header. */
export class Farewell implements ChannelSink, Watched {
  readonly deadline: number
  readonly #channel: Channel
  readonly #watch: RelayWatch

  constructor(
    parts: { readonly channel: Channel; readonly watch: RelayWatch },
    settings: { readonly withinMs: number },
  ) {
    this.#channel = parts.channel
    this.#watch = parts.watch
    this.deadline = parts.watch.deadlineIn(settings.withinMs)
  }

  /** Says goodbye. */
  start(): void {
    const channel = this.#channel
    if (channel.closed) return
    channel.sink = this
    this.#watch.add(this)
    channel.resume()
    channel.end()
  }

  onData(): void {
    this.expired()
  }

  onEnd(): void {}
  onDrain(): void {}

  onClose(): void {
    this.#watch.remove(this)
  }

  expired(): void {
    this.#channel.sink = nobody
    this.#channel.abort()
    this.#watch.remove(this)
  }

  drain(): void {
    this.expired()
  }
}
