/** Owns the small adapters by which readers and channels speak to their exchange. */

import type { BodySink } from '#agent/http1/body.ts'
import type { Fields } from '#agent/http1/head.ts'
import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'
import type { Exchange } from './exchange.ts'

/** Content of the request goes to the upstream. */
export class RequestBodySink implements BodySink {
  readonly #exchange: Exchange
  constructor(exchange: Exchange) {
    this.#exchange = exchange
  }
  onContent(content: Buffer): void {
    this.#exchange.requestContent(content)
  }
  onBodyEnd(trailers: Fields): void {
    this.#exchange.requestEnd(trailers)
  }
}

/** Content of the response goes to the caller. */
export class ResponseBodySink implements BodySink {
  readonly #exchange: Exchange
  constructor(exchange: Exchange) {
    this.#exchange = exchange
  }
  onContent(content: Buffer): void {
    this.#exchange.responseContent(content)
  }
  onBodyEnd(trailers: Fields): void {
    this.#exchange.responseEnd(trailers)
  }
}

/** What the upstream's channel tells. */
export class UpstreamSink implements ChannelSink {
  readonly #exchange: Exchange
  constructor(exchange: Exchange) {
    this.#exchange = exchange
  }
  onData(chunk: Buffer): void {
    this.#exchange.fromUpstream(chunk)
  }
  onEnd(): void {
    this.#exchange.upstreamEnded()
  }
  onDrain(): void {
    this.#exchange.upstreamDrained()
  }
  onClose(error: ChannelError | null): void {
    this.#exchange.upstreamClosed(error)
  }
}

/** Pieces up to this are written together with what frames them. */
const joinable = 4096

/** Writes content as one chunk (RFC 9112 §7.1); false when the writer should wait. */
export function writeChunk(channel: Channel, content: Buffer): boolean {
  if (content.length === 0) return true
  const size = `${content.length.toString(16)}\r\n`
  if (content.length <= joinable)
    return channel.writeText(`${size}${content.toString('latin1')}\r\n`)
  channel.writeText(size)
  channel.write(content)
  return channel.writeText('\r\n')
}
