/**
 * Owns one caller connection that speaks HTTP/1.1: takes heads off it, one after the other, has each
 * request carried by its exchange, and keeps or ends the connection. Requests wait their turn; bytes
 * of the next one are held back, never forwarded early. It chooses no upstream.
 */

import { readRequestHead, type HeadLimits } from '#agent/http1/head.ts'
import type { Channel, ChannelError, ChannelSink, Clock, Random } from '#agent/platform.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { Reason } from '#shared/model/reason.ts'
import { Exchange } from './exchange.ts'
import type { RelayWatch, Watched } from './relay-watch.ts'
import type { HttpSteps } from './steps.ts'

/** What a relay leans on. */
export interface HttpRelayParts {
  readonly caller: Channel
  readonly steps: HttpSteps
  readonly outcomes: OutcomeSink
  readonly watch: RelayWatch
  readonly clock: Clock
  readonly random: Random
}

/** Settings of HTTP relays. */
export interface HttpRelaySettings {
  readonly head: HeadLimits
  /** From a head's first byte to its last. @default 10_000 */
  readonly headMs: number
  /** Between two requests. @default 300_000 */
  readonly idleMs: number
  /** Between two pieces of a request body. @default 60_000 */
  readonly bodyIdleMs: number
  /** Until the response begins, and between two pieces of it. @default 300_000 */
  readonly responseIdleMs: number
  /** Attempts at a request, the first one included. @default 3 */
  readonly maxAttempts: number
  /** Largest request body that is held for another attempt. @default 65_536 */
  readonly maxHeldBytes: number
}

/** The defaults of {@link HttpRelaySettings}. */
export const httpRelayDefaults: HttpRelaySettings = {
  head: { maxBytes: 65_536, maxFields: 100 },
  headMs: 10_000,
  idleMs: 300_000,
  bodyIdleMs: 60_000,
  responseIdleMs: 300_000,
  maxAttempts: 3,
  maxHeldBytes: 65_536,
}

/** How long what is still on its way is read and thrown away before a connection ends. */
const lingerMs = 2000
const emptyLine = Buffer.from('\r\n\r\n')

/** See the header. */
export class HttpRelay implements ChannelSink, Watched {
  readonly parts: HttpRelayParts
  readonly settings: HttpRelaySettings
  readonly #exchange: Exchange
  #phase: 'head' | 'exchange' | 'bytes' | 'linger' | 'closed' = 'head'
  /** Bytes not yet taken: part of a head, or of requests that wait their turn. */
  #input: Buffer | null = null
  #headSince = 0
  #callerEnded = false
  #draining = false
  #advancing = false
  deadline = Infinity

  constructor(parts: HttpRelayParts, settings: HttpRelaySettings = httpRelayDefaults) {
    this.parts = parts
    this.settings = settings
    this.#exchange = new Exchange(this)
  }

  /** Begins to read; the caller's channel is its own from here on. */
  start(): void {
    const { watch, caller } = this.parts
    this.#expectWithin(this.settings.idleMs)
    watch.add(this)
    caller.sink = this
  }

  onData(chunk: Buffer): void {
    switch (this.#phase) {
      case 'head':
        this.#input = this.#input === null ? chunk : Buffer.concat([this.#input, chunk])
        this.#advance()
        break
      case 'exchange':
        this.#exchange.fromCaller(chunk)
        break
      case 'bytes':
        this.#exchange.bytesFromCaller(chunk)
        break
      case 'linger':
      case 'closed':
        break
    }
  }

  onEnd(): void {
    this.#callerEnded = true
    switch (this.#phase) {
      case 'head':
        // A head cut short was never a request; nothing is owed.
        this.close()
        break
      case 'exchange':
        this.#exchange.callerEnded()
        break
      case 'bytes':
        this.#exchange.callerEnded()
        break
      case 'linger':
        this.parts.caller.abort()
        break
      case 'closed':
        break
    }
  }

  onDrain(): void {
    this.#exchange.callerDrained()
  }

  onClose(_error: ChannelError | null): void {
    if (this.#phase === 'exchange' || this.#phase === 'bytes') this.#exchange.callerGone()
    this.#phase = 'closed'
    this.#input = null
    this.deadline = Infinity
    this.parts.watch.remove(this)
  }

  /** Ends the connection after the request under way, or now when there is none. */
  drain(): void {
    this.#draining = true
    if (this.#phase === 'head' && this.#input === null) this.close()
  }

  /** Whether the connection ends with the request under way. */
  get lastRequest(): boolean {
    return this.#draining || this.#callerEnded
  }

  expired(): void {
    switch (this.#phase) {
      case 'head':
        if (this.#input === null) this.close()
        else this.#exchange.refuseHead('head-timeout', 408, 'the head of the request took too long')
        break
      case 'exchange':
        this.#exchange.timedOut()
        break
      case 'bytes':
        this.deadline = Infinity
        break
      case 'linger':
        this.parts.caller.abort()
        break
      case 'closed':
        break
    }
  }

  /** For the exchange: something is due within `ms`. */
  expectWithin(ms: number): void {
    this.#expectWithin(ms)
  }

  /** For the exchange: bytes beyond the request under way. They wait, and the caller with them. */
  holdBack(bytes: Buffer): void {
    this.#input = this.#input === null ? bytes : Buffer.concat([this.#input, bytes])
    this.parts.caller.pause()
  }

  /** For the exchange: takes what waits, as the first part of a body. */
  takeInput(): Buffer | null {
    const input = this.#input
    this.#input = null
    return input
  }

  /** For the exchange: whether bytes beyond the request have come. */
  get hasInput(): boolean {
    return this.#input !== null
  }

  /** For the exchange: the request is over and the connection stays. */
  next(): void {
    if (this.#phase !== 'exchange') return
    if (this.#draining || this.#callerEnded) {
      this.close()
      return
    }
    this.#phase = 'head'
    this.#expectWithin(this.settings.idleMs)
    this.parts.caller.resume()
    this.#advance()
  }

  /** For the exchange: a 101 was answered, from here on bytes go both ways. */
  becomeBytes(): void {
    this.#phase = 'bytes'
    this.deadline = Infinity
    this.parts.caller.resume()
  }

  /** Ends the connection: what was written still goes out, what still comes is thrown away. */
  close(): void {
    if (this.#phase === 'closed' || this.#phase === 'linger') return
    this.#phase = 'linger'
    this.#input = null
    this.#expectWithin(lingerMs)
    const { caller } = this.parts
    caller.resume()
    caller.end()
    if (this.#callerEnded) this.deadline = this.parts.clock.elapsed() + lingerMs
  }

  #expectWithin(ms: number): void {
    this.deadline = this.parts.clock.elapsed() + ms
  }

  /** Takes heads off the input as long as there is a whole one and nothing under way. */
  #advance(): void {
    if (this.#advancing) return
    this.#advancing = true
    while (this.#phase === 'head' && this.#input !== null) {
      if (!this.#takeHead(this.#input)) break
    }
    this.#advancing = false
  }

  #takeHead(input: Buffer): boolean {
    const { maxBytes } = this.settings.head
    const end = input.indexOf(emptyLine)
    if (end < 0 ? input.length > maxBytes : end > maxBytes) {
      this.#begin()
      this.#exchange.refuseHead('head-too-large', 431, `the head is larger than ${maxBytes} bytes`)
      return true
    }
    if (end < 0) {
      if (!startsLikeHttp(input)) {
        this.#begin()
        this.#exchange.refuseHead('not-http', 400, 'this service speaks HTTP/1.1 and nothing else')
        return true
      }
      if (this.#headSince === 0) {
        this.#headSince = this.parts.clock.elapsed()
        this.#expectWithin(this.settings.headMs)
      }
      return false
    }
    this.#input = input.length > end + 4 ? input.subarray(end + 4) : null
    this.#begin()
    const head = readRequestHead(input.toString('latin1', 0, end), this.settings.head)
    if (head.kind === 'fault') {
      const reason: Reason =
        head.status === 431
          ? 'head-too-large'
          : head.status === 405
            ? 'method-refused'
            : 'bad-request'
      this.#exchange.refuseHead(reason, head.status, head.problem)
    } else this.#exchange.begin(head, end + 4)
    return true
  }

  #begin(): void {
    this.#phase = 'exchange'
    this.#headSince = 0
  }
}

/** Whether the first byte can begin a method; a TLS hello or another protocol cannot. */
function startsLikeHttp(input: Buffer): boolean {
  const first = input[0] as number
  return first > 0x20 && first < 0x7f
}
