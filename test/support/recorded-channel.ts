/** Owns a sink and an opener that remember what they were told and let a test wait for it. */

import { once } from 'node:events'
import { EventEmitter } from 'node:events'
import type { Reason } from '#shared/model/reason.ts'
import type { Channel, ChannelError, ChannelSink, Opener } from '#agent/platform.ts'

/** A sink that keeps what it hears. */
export class RecordedSink implements ChannelSink {
  readonly chunks: Buffer[] = []
  bytes = 0
  ended = false
  drains = 0
  /** Undefined until the channel is gone. */
  closed: ChannelError | null | undefined
  readonly #changes = new EventEmitter()

  /** All text so far. */
  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1')
  }

  onData(chunk: Buffer): void {
    this.chunks.push(chunk)
    this.bytes += chunk.length
    this.#changes.emit('change')
  }

  onEnd(): void {
    this.ended = true
    this.#changes.emit('change')
  }

  onDrain(): void {
    this.drains++
    this.#changes.emit('change')
  }

  onClose(error: ChannelError | null): void {
    if (this.closed !== undefined) throw new Error('a second goodbye')
    this.closed = error
    this.#changes.emit('change')
  }

  /** Waits until something it heard makes `holds` true. */
  async until(holds: (sink: this) => boolean): Promise<this> {
    while (!holds(this)) await once(this.#changes, 'change')
    return this
  }
}

/** How an open went. */
export type Opened =
  | { readonly kind: 'open'; readonly channel: Channel; readonly sink: RecordedSink }
  | { readonly kind: 'failed'; readonly reason: Reason; readonly detail: string }

/** An opener, and what it will have heard. */
export function recordedOpen(open: (opener: Opener) => void): Promise<Opened> {
  return new Promise((resolve) => {
    open({
      onOpen(channel) {
        const sink = new RecordedSink()
        channel.sink = sink
        resolve({ kind: 'open', channel, sink })
      },
      onOpenFailed(reason, detail) {
        resolve({ kind: 'failed', reason, detail })
      },
    })
  })
}
