/** Owns a channel without a socket: a test says what is read from it and sees what is written. */

import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'

const nobody: ChannelSink = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }

/** See the header. */
export class MemoryChannel implements Channel {
  sink: ChannelSink = nobody
  closed = false
  ended = false
  aborted = false
  paused = false
  /** False makes writes ask to wait. */
  hasRoom = true
  /** Told of every write. */
  onWrite: (() => void) | null = null
  #written: Buffer[] = []

  /** Everything written so far, latin-1. */
  get text(): string {
    return this.bytes.toString('latin1')
  }

  /** Everything written so far. */
  get bytes(): Buffer {
    if (this.#written.length > 1) this.#written = [Buffer.concat(this.#written)]
    return this.#written[0] ?? Buffer.alloc(0)
  }

  write(chunk: Buffer): boolean {
    this.#written.push(Buffer.from(chunk))
    this.onWrite?.()
    return this.hasRoom
  }

  writeText(text: string): boolean {
    return this.write(Buffer.from(text, 'latin1'))
  }

  end(): void {
    this.ended = true
  }

  abort(): void {
    this.closed = this.aborted = true
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  /** The far side sends bytes. */
  deliver(bytes: Buffer | string): void {
    if (this.closed) return
    this.sink.onData(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes)
  }

  /** The far side half-closes. */
  deliverEnd(): void {
    if (!this.closed) this.sink.onEnd()
  }

  /** The channel goes, by an error or in order. */
  deliverClose(error: ChannelError | null = null): void {
    this.closed = true
    this.sink.onClose(error)
  }

  /** Writes go on. */
  drain(): void {
    this.hasRoom = true
    this.sink.onDrain()
  }
}
