/**
 * Owns a channel to a service that is done with: half-closed, so that the service hears a goodbye
 * and no reset, and ended for good when it does not say its own in time.
 */

import type { Channel, ChannelSink } from '#agent/platform.ts'
import type { RelayWatch, Watched } from './relay-watch.ts'
import { nobody } from './silence.ts'

const partingMs = 5000

/** See the header. */
export class Parting implements ChannelSink, Watched {
  readonly deadline: number
  readonly #channel: Channel
  readonly #watch: RelayWatch

  constructor(parts: { readonly channel: Channel; readonly watch: RelayWatch }) {
    this.#channel = parts.channel
    this.#watch = parts.watch
    this.deadline = parts.watch.deadlineIn(partingMs)
  }

  start(): void {
    if (this.#channel.closed) return
    this.#watch.add(this)
    this.#channel.sink = this
    this.#channel.resume()
    this.#channel.end()
  }

  onData(): void {}
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

  reconsider(): void {}

  drain(): void {
    this.expired()
  }
}
