/**
 * Owns one caller connection that speaks HTTP/1.1: reads requests off it, one after the other, has
 * each carried by its exchange, and keeps or ends the connection. Requests wait their turn; bytes of
 * the next one are held back, never forwarded early. It chooses no upstream.
 */

import { BodyReader } from '#agent/http1/body-reader.ts'
import { tokenBytes } from '#agent/http1/bytes.ts'
import { HeadInput } from '#agent/http1/head-input.ts'
import { headDefaults, needsMore, refused, type HeadLimits } from '#agent/http1/head.ts'
import { ParsedRequest, skipEmptyLines } from '#agent/http1/parsed-request.ts'
import type { Channel, ChannelError, ChannelSink, Clock, Random } from '#agent/platform.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { Reason } from '#shared/model/reason.ts'
import { Exchange, type ExchangeOwner } from './exchange.ts'
import { JoinedWriter } from './joined-writer.ts'
import type { RelayWatch, Watched } from './relay-watch.ts'
import { nobody } from './silence.ts'
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
  /** Between two requests, and before the first. @default 300_000 */
  readonly idleMs: number
  /** Between two requests of a connection that is to end. @default 1000 */
  readonly drainIdleMs: number
  /** Between two pieces of a request body. @default 60_000 */
  readonly bodyIdleMs: number
  /** Until the response begins, and between two pieces of it. @default 300_000 */
  readonly responseIdleMs: number
  /** Until the caller ends a connection that we have ended, once all has gone out. @default 5000 */
  readonly lingerMs: number
  /** Attempts at a request, the first one included. @default 3 */
  readonly maxAttempts: number
  /** Largest request body that is held for another attempt. @default 65_536 */
  readonly maxHeldBytes: number
}

/** The defaults of {@link HttpRelaySettings}. */
export const httpRelayDefaults: HttpRelaySettings = {
  head: headDefaults,
  headMs: 10_000,
  idleMs: 300_000,
  drainIdleMs: 1000,
  bodyIdleMs: 60_000,
  responseIdleMs: 300_000,
  lingerMs: 5000,
  maxAttempts: 3,
  maxHeldBytes: 65_536,
}

/** See the header. */
export class HttpRelay implements ChannelSink, Watched, ExchangeOwner {
  deadline = Infinity
  readonly out = new JoinedWriter()
  readonly #parts: HttpRelayParts
  readonly #settings: HttpRelaySettings
  readonly #request = new ParsedRequest()
  readonly #exchange: Exchange
  readonly #body: BodyReader
  readonly #input: HeadInput
  #phase: 'head' | 'exchange' | 'switched' | 'linger' | 'closed' = 'head'
  /** Bytes that wait: of later requests, or of this one until the caller has taken a response. */
  #waiting: Buffer | null = null
  #isReading = false
  #isHolding = false
  #callerEnded = false
  #isDraining = false
  /** Whether the deadline of the head under way is set. */
  #hasFirstByte = false

  constructor(parts: HttpRelayParts, settings: HttpRelaySettings = httpRelayDefaults) {
    this.#parts = parts
    this.#settings = settings
    this.#exchange = new Exchange({ owner: this, relay: parts }, settings)
    this.#body = new BodyReader({ sink: this.#exchange }, settings.head)
    this.#input = new HeadInput(settings.head)
  }

  /** Begins to read; the channel is the relay's own from here on. */
  start(): void {
    const { caller, watch } = this.#parts
    this.out.attach(caller)
    caller.sink = this
    this.expectWithin(this.#settings.idleMs)
    watch.add(this)
  }

  // ---- what the caller does

  onData(chunk: Buffer): void {
    switch (this.#phase) {
      case 'head':
      case 'exchange':
        if (this.#waiting === null && !this.#isReading && !this.out.isFull) this.#read(chunk)
        else this.#keepWaiting(chunk)
        break
      case 'switched':
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
        if (this.#waiting === null) this.close()
        break
      case 'exchange':
        if (!this.#exchange.wantsBody) break
        this.#exchange.callerGone()
        this.abort()
        break
      case 'switched':
      case 'linger':
      case 'closed':
        break
    }
  }

  onDrain(): void {
    this.out.drained()
    switch (this.#phase) {
      case 'head':
        this.#takeUp()
        break
      case 'exchange':
        this.#exchange.callerDrained()
        break
      case 'linger':
        this.expectWithin(this.#settings.lingerMs)
        break
      case 'switched':
      case 'closed':
        break
    }
  }

  onClose(_error: ChannelError | null): void {
    const wasBusy = this.#phase === 'exchange'
    this.#leave()
    if (wasBusy) this.#exchange.callerGone()
  }

  // ---- what time does

  /** Ends the connection after the request under way, or soon when there is none. */
  drain(): void {
    this.#isDraining = true
    if (this.#phase === 'head' && !this.#hasFirstByte) {
      this.expectWithin(this.#settings.drainIdleMs)
    }
  }

  expired(): void {
    switch (this.#phase) {
      case 'head':
        if (this.out.isFull) this.abort()
        else if (this.#hasFirstByte) {
          this.#refuse('head-timeout', 'the head of the request took too long', 0)
        } else this.close()
        break
      case 'exchange':
        this.#exchange.timedOut()
        break
      case 'linger':
        this.abort()
        break
      case 'switched':
      case 'closed':
        break
    }
  }

  // ---- reading

  #keepWaiting(bytes: Buffer): void {
    this.#waiting = this.#waiting === null ? bytes : Buffer.concat([this.#waiting, bytes])
    this.#parts.caller.pause()
  }

  /** Reads what waited, as far as it may now. */
  #takeUp(): void {
    if (this.#isReading) return
    while (this.#phase === 'head' && this.#waiting !== null && !this.out.isFull) {
      const bytes = this.#waiting
      this.#waiting = null
      this.#read(bytes)
    }
    if (this.#waiting === null) this.#flow()
    if (this.#callerEnded && this.#phase === 'head' && this.#waiting === null) this.close()
  }

  #flow(): void {
    const isReadable = this.#phase === 'head' || this.#phase === 'exchange'
    if (isReadable && !this.#isHolding) this.#parts.caller.resume()
  }

  /** Reads heads and bodies; what belongs to a later request waits. */
  #read(chunk: Buffer): void {
    this.#isReading = true
    let at = 0
    let bytes = chunk
    if (!this.#input.isEmpty) {
      bytes = this.#gather(chunk)
    }
    while (at < bytes.length) {
      if (this.#phase === 'head' && !this.out.isFull) at = this.#readHead(bytes, at)
      else if (this.#phase === 'exchange' && !this.#body.isWhole) at = this.#readBody(bytes, at)
      else break
    }
    this.#isReading = false
    if (at < bytes.length && this.#phase !== 'linger' && this.#phase !== 'closed') {
      this.#keepWaiting(at === 0 ? bytes : bytes.subarray(at))
    }
  }

  /** Adds to a head that comes in pieces; answers what can be read now. */
  #gather(piece: Buffer): Buffer {
    switch (this.#input.add(piece)) {
      case 'partial':
        return nothing
      case 'ready':
        return this.#input.take()
      case 'too-large':
        this.#refuse('head-too-large', tooLarge(this.#settings.head), piece.length)
        return nothing
    }
  }

  /** Reads a head and begins its request; answers where it ends. */
  #readHead(bytes: Buffer, from: number): number {
    const request = this.#request
    const at = skipEmptyLines(bytes, from)
    if (at === bytes.length) return at
    const end = request.read(bytes, at, this.#settings.head)
    if (end === refused) {
      const isHttp = tokenBytes[bytes[at] as number] === 1
      if (isHttp) this.#refuse(request.fault.reason, request.fault.problem, bytes.length - at)
      else this.#refuse('not-http', 'this service speaks HTTP/1.1 and nothing else', 0)
      return bytes.length
    }
    if (end === needsMore) {
      if (!this.#hasFirstByte) {
        this.#hasFirstByte = true
        this.expectWithin(this.#settings.headMs)
      }
      this.#gather(bytes.subarray(at))
      return bytes.length
    }
    this.#phase = 'exchange'
    this.#hasFirstByte = false
    // A request without content is whole before its exchange may come to an end.
    this.#body.begin(request.framing, request.contentLength, 'framed', request.connection.nominated)
    this.#exchange.begin(request, end - at)
    if (request.framing !== 'none' && end === bytes.length) this.#exchange.bodyPauses(false)
    return end
  }

  #readBody(bytes: Buffer, from: number): number {
    const end = this.#body.read(bytes, from)
    if (end < 0) {
      this.#exchange.bodyIsBad(this.#body.problem)
      return bytes.length
    }
    this.#exchange.bodyPauses(this.#body.isWhole)
    return end
  }

  /** Answers what is no request. */
  #refuse(reason: Reason, problem: string, bytes: number): void {
    this.#phase = 'exchange'
    this.#input.clear()
    this.#exchange.refuse(reason, problem, bytes)
  }

  // ---- for the exchange

  get isLast(): boolean {
    return this.#isDraining || (this.#callerEnded && this.#waiting === null)
  }

  get hasMore(): boolean {
    return this.#waiting !== null
  }

  expectWithin(ms: number): void {
    this.deadline = this.#parts.watch.deadlineIn(ms)
  }

  holdBody(): void {
    if (this.#isHolding) return
    this.#isHolding = true
    this.#parts.caller.pause()
  }

  goOnWithBody(): void {
    if (!this.#isHolding) return
    this.#isHolding = false
    if (this.#waiting === null) this.#flow()
  }

  next(): void {
    if (this.#phase !== 'exchange') return
    if (this.isLast) {
      this.close()
      return
    }
    this.#phase = 'head'
    this.#isHolding = false
    this.#hasFirstByte = false
    // A caller that does not take its response is no idle one.
    this.expectWithin(this.out.isFull ? this.#settings.responseIdleMs : this.#settings.idleMs)
    if (this.#waiting !== null) this.#takeUp()
  }

  close(): void {
    if (this.#phase === 'closed' || this.#phase === 'linger') return
    this.#phase = 'linger'
    this.#waiting = null
    this.#input.clear()
    // What was written may still be on its way to a slow reader; `onDrain` tells when it has gone.
    this.expectWithin(this.#settings.responseIdleMs)
    const { caller } = this.#parts
    caller.resume()
    caller.end()
  }

  abort(): void {
    const { caller } = this.#parts
    this.#leave()
    caller.sink = nobody
    caller.abort()
  }

  surrender(): Buffer | null {
    const waiting = this.#waiting
    this.#waiting = null
    this.#phase = 'switched'
    this.deadline = Infinity
    return waiting
  }

  switchedEnds(): void {
    this.#leave()
  }

  #leave(): void {
    this.#phase = 'closed'
    this.#waiting = null
    this.#input.clear()
    this.deadline = Infinity
    this.#parts.watch.remove(this)
  }
}

const nothing = Buffer.alloc(0)

function tooLarge(limits: HeadLimits): string {
  return `the head is larger than ${limits.maxBytes} bytes`
}
