/** Owns a channel that a test plays both ends of. */

import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'

/** See the header. What is written to it is heard; it is full when the test says so. */
export class FakeChannel implements Channel {
  sink: ChannelSink = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }
  closed = false
  ended = false
  aborted = false
  paused = false
  full = false
  waitingBytes = 0
  #heard = ''
  #heldBack: string[] = []

  /** Everything that was written to it, latin-1. */
  get heard(): string {
    return this.#heard
  }

  /** The far side sends; what it sends while paused comes with `resume`. */
  says(text: string): void {
    if (this.paused) this.#heldBack.push(text)
    else this.sink.onData(Buffer.from(text, 'latin1'))
  }

  /** The far side half-closes. */
  saysEnd(): void {
    this.sink.onEnd()
  }

  /** The far side takes what was written. */
  drains(): void {
    this.full = false
    this.sink.onDrain()
  }

  /** The channel is gone. */
  close(error: ChannelError | null): void {
    this.closed = true
    this.sink.onClose(error)
  }

  write(chunk: Buffer): boolean {
    return this.writeText(chunk.toString('latin1'))
  }

  writeText(text: string): boolean {
    if (!this.closed && !this.ended) this.#heard += text
    return !this.full
  }

  end(): void {
    this.ended = true
  }

  abort(): void {
    if (this.closed) return
    this.closed = true
    this.aborted = true
    queueMicrotask(() => this.sink.onClose(null))
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
    for (const text of this.#heldBack.splice(0)) this.says(text)
  }
}
