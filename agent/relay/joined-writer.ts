/**
 * Owns the joining of small writes to a channel: a head, its framing and a short body leave in one
 * write, and so in one system call. Whoever writes flushes at the end of what it was doing.
 */

import type { Channel } from '#agent/platform.ts'

/** Pieces up to this many bytes are copied together; larger ones are passed on as they are. */
const joinableBytes = 4096

/** See the header. */
export class JoinedWriter {
  #channel: Channel | null = null
  #pending = ''
  #isFull = false
  /** Bytes written since `attach`. */
  bytes = 0

  /** Whether the channel asked to wait; until `drained`. */
  get isFull(): boolean {
    return this.#isFull
  }

  get channel(): Channel | null {
    return this.#channel
  }

  /** Writes go here from now on. */
  attach(channel: Channel): void {
    this.#channel = channel
    this.#isFull = false
    this.#pending = ''
  }

  /** Forgets the channel and what was not flushed; answers the channel. */
  detach(): Channel | null {
    const channel = this.#channel
    this.#channel = null
    this.#pending = ''
    return channel
  }

  drained(): void {
    this.#isFull = false
  }

  /** Latin-1 text. */
  text(text: string): void {
    this.bytes += text.length
    this.#pending = this.#pending === '' ? text : this.#pending + text
    if (text.length > joinableBytes) this.flush()
  }

  piece(piece: Buffer): void {
    this.bytes += piece.length
    if (piece.length <= joinableBytes) {
      this.#pending += piece.toString('latin1')
      if (this.#pending.length > joinableBytes) this.flush()
      return
    }
    this.flush()
    if (this.#channel?.write(piece) === false) this.#isFull = true
  }

  /** Sends what waits for company. */
  flush(): void {
    if (this.#pending === '') return
    const pending = this.#pending
    this.#pending = ''
    if (this.#channel?.writeText(pending) === false) this.#isFull = true
  }
}
