/** Owns a CONNECT stream as the accepting side sees it: a channel that is first granted or refused. */

import type { Reason } from '#shared/model/reason.ts'
import { errorCodes } from '#agent/http2/fault.ts'
import type { Http2Stream } from '#agent/http2/stream.ts'
import type { Channel, ChannelSink } from '#agent/platform.ts'
import { acceptanceFields, refusalFields } from './refusal.ts'

/** See the header. What the caller sends waits until there is a sink. */
export class IncomingStream implements Channel {
  readonly #stream: Http2Stream

  constructor(parts: { readonly stream: Http2Stream }) {
    this.#stream = parts.stream
  }

  /** Grants the stream (`:status` 200). */
  accept(): void {
    this.#stream.sendHeaders(acceptanceFields(), false)
  }

  /** Refuses it, with an HTTP status, a reason of the mesh and a sentence for people. */
  refuse(status: number, reason: Reason, detail: string): void {
    this.#stream.sendHeaders(refusalFields(status, reason, detail), true)
    // RFC 9113 §8.1: the answer is complete, and what else comes is of no interest.
    this.#stream.reset(errorCodes.noError, null)
  }

  get sink(): ChannelSink {
    return this.#stream.sink
  }

  set sink(sink: ChannelSink) {
    this.#stream.sink = sink
  }

  get closed(): boolean {
    return this.#stream.closed
  }

  get retiring(): boolean {
    return this.#stream.retiring
  }

  get waitingBytes(): number {
    return this.#stream.waitingBytes
  }

  write(chunk: Buffer): boolean {
    return this.#stream.write(chunk)
  }

  writeText(text: string): boolean {
    return this.#stream.writeText(text)
  }

  end(): void {
    this.#stream.end()
  }

  abort(): void {
    this.#stream.abort()
  }

  pause(): void {
    this.#stream.pause()
  }

  resume(): void {
    this.#stream.resume()
  }
}
