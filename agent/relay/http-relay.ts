/**
 * Owns one caller connection that speaks HTTP/1.1: takes heads off it, one after the other, has each
 * request carried by its exchange, and keeps or ends the connection. Requests wait their turn; bytes
 * of the next one are held back, never forwarded early. It chooses no upstream.
 */

import { headDefaults, withRoom, type HeadFault, type HeadLimits } from '#agent/http1/head-fault.ts'
import { HeadInput } from '#agent/http1/head-input.ts'
import { readRequestHead, type RequestHead } from '#agent/http1/head.ts'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Channel, ChannelSink, Clock, Random } from '#agent/platform.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
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
  /** Bounds what waits its turn, or to be sent again, with all else that waits on this host. */
  readonly held: HeldBytes | undefined
}

/** Settings of HTTP relays. */
export interface HttpRelaySettings {
  /** For what callers and services say; agents among themselves have room for their own fields. */
  readonly head: HeadLimits
  /** From a head's first byte to its last. @default 10_000 */
  readonly headMs: number
  /** Between two requests. @default 300_000 */
  readonly idleMs: number
  /** Between two pieces of a request body. @default 60_000 */
  readonly bodyIdleMs: number
  /** Until the response begins, and between two pieces of it. @default 300_000 */
  readonly responseIdleMs: number
  /** The same where the caller has ended its side, and most likely has given up. @default 30_000 */
  readonly endedMs: number
  /** How long a caller is heard out that was told goodbye and does not say its own. @default 5000 */
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
  bodyIdleMs: 60_000,
  responseIdleMs: 300_000,
  endedMs: 30_000,
  lingerMs: 5000,
  maxAttempts: 3,
  maxHeldBytes: 65_536,
}

/** From so many bytes on that wait their turn, the caller waits too; a peer agent sends none early. */
const mostWaiting = { outbound: 65_536, inbound: 1 }
/** Longer heads are not kept to be known again: they would weigh more than all the rest. */
const mostKnown = 4096
/** A connection without a request for this long keeps nothing but itself. */
const restMs = 1000

const tooMuch = 'too many bytes wait on this host, for slow readers or for their turn'

/** Longest wait for another request of a peer agent that was told goodbye. */
const peerIdleMs = 1000

/** See the header. */
export class HttpRelay implements ChannelSink, Watched {
  readonly parts: HttpRelayParts
  readonly settings: HttpRelaySettings
  /** When the phase under way has lasted too long. */
  deadline = Infinity
  /** Null while no request has come, and while none comes. */
  #exchange: Exchange | null = null
  readonly #limits: HeadLimits
  /** Bytes not yet taken: part of a head, or of requests that wait their turn. */
  readonly #input: HeadInput
  /** Of these, what the host knows of. */
  #counted = 0
  #phase: 'head' | 'exchange' | 'upgraded' | 'linger' | 'closed' = 'head'
  #headBegun = false
  /** The last head and its text: most callers say the same again and again. */
  #lastHead: RequestHead | null = null
  #lastText = ''
  /** The caller takes no more for now. */
  #full = false
  #callerEnded = false
  #draining = false
  /** Between two requests; less once the connection is to end. */
  #idleMs: number
  #advancing = false
  /** What the deadline becomes once the connection rests; 0 while it has more to do than wait. */
  #idleUntil = 0

  constructor(parts: HttpRelayParts, settings: HttpRelaySettings = httpRelayDefaults) {
    this.parts = parts
    this.settings = settings
    this.#idleMs = settings.idleMs
    // A peer agent has judged what its caller sent, and added to it.
    this.#limits = parts.steps.direction === 'inbound' ? withRoom(settings.head) : settings.head
    this.#input = new HeadInput(this.#limits)
  }

  /** Begins to read; the caller's channel is its own from here on. */
  start(): void {
    const { watch, caller } = this.parts
    if (caller.closed) return
    this.expectWithin(this.settings.idleMs)
    caller.sink = this
    watch.add(this)
  }

  onData(chunk: Buffer): void {
    switch (this.#phase) {
      case 'head':
        this.#input.push(chunk)
        this.#advance()
        break
      case 'exchange':
        if (this.#current.takesBody) this.#current.fromCaller(chunk)
        else this.holdBack(chunk)
        break
      case 'upgraded':
      case 'linger':
      case 'closed':
        break
    }
  }

  onEnd(): void {
    this.#callerEnded = true
    switch (this.#phase) {
      case 'head':
        this.#advance()
        break
      case 'exchange':
        this.#current.callerEnded()
        break
      case 'upgraded':
      case 'linger':
      case 'closed':
        break
    }
  }

  onDrain(): void {
    this.#full = false
    switch (this.#phase) {
      case 'head':
        this.#advance()
        break
      case 'exchange':
        this.#current.callerDrained()
        break
      case 'linger':
        this.expectWithin(this.settings.lingerMs)
        break
      case 'upgraded':
      case 'closed':
        break
    }
  }

  onClose(): void {
    if (this.#phase === 'exchange') this.#current.callerGone()
    this.#leave()
  }

  /** Ends the connection after the request under way, or, when there is none, if none comes soon. */
  drain(idleMs: number): void {
    this.#draining = true
    // A peer agent has heard by then that its tunnel takes no more requests; a caller hears nothing.
    const isPeer = this.parts.steps.direction === 'inbound'
    this.#idleMs = isPeer ? Math.min(idleMs, peerIdleMs) : idleMs
    if (this.#phase === 'head' && this.#input.size === 0) this.expectWithin(this.#idleMs)
  }

  /** Policy has changed: what it no longer allows ends, the request under way with a reason. */
  reconsider(): void {
    const isUnderWay = this.#phase === 'exchange'
    if (!isUnderWay && this.#phase !== 'head') return
    const refusal = this.parts.steps.reconsider(isUnderWay)
    if (refusal === null) return
    if (isUnderWay) this.#current.revoke(refusal)
    else this.close()
  }

  expired(): void {
    switch (this.#phase) {
      case 'head':
        if (this.#idleUntil > this.deadline) this.#rest()
        else if (this.#full) {
          // It may still be reading its last response.
          if (this.#draining) this.close()
          else this.parts.caller.abort()
        } else if (this.#input.size === 0) this.close()
        else this.#begin().refuse('head-timeout', 'the head of the request took too long')
        break
      case 'exchange':
        this.#current.timedOut()
        break
      case 'linger':
        this.parts.caller.abort()
        break
      case 'upgraded':
      case 'closed':
        break
    }
  }

  // ---- for the exchange

  /** Whether the connection ends with the request under way. */
  get lastRequest(): boolean {
    return this.#draining || (this.#callerEnded && this.#input.size === 0)
  }

  /** Whether the caller has ended its side. */
  get callerHasEnded(): boolean {
    return this.#callerEnded
  }

  /** Whether the caller takes no more for now. */
  get callerIsFull(): boolean {
    return this.#full
  }

  /** The caller's channel answered false to a write. */
  callerFilled(): void {
    this.#full = true
  }

  /** Something is due within `ms`. */
  expectWithin(ms: number): void {
    this.deadline = this.parts.watch.deadlineIn(ms)
    this.#idleUntil = 0
  }

  /** Bytes beyond the request under way, or of a body that cannot go on yet: they wait. */
  holdBack(bytes: Buffer): void {
    this.#input.push(bytes)
    if (this.#waitsEnough) this.parts.caller.pause()
    this.#count()
  }

  /** Takes what waits, as the first part of a body or of what follows an upgrade. */
  takeInput(): Buffer | null {
    const input = this.#input.takeAll()
    this.#count()
    return input
  }

  /** Reads on, unless too much waits already. */
  readOn(): void {
    if (!this.#waitsEnough) this.parts.caller.resume()
  }

  /** The request is over and the connection stays. */
  next(): void {
    if (this.#phase !== 'exchange') return
    const { watch } = this.parts
    this.#phase = 'head'
    this.deadline = watch.deadlineIn(Math.min(restMs, this.#idleMs))
    this.#idleUntil = watch.deadlineIn(this.#idleMs)
    this.#advance()
  }

  /** A 101 was answered: the caller's channel is somebody else's from here on. */
  handOver(): void {
    this.#phase = 'upgraded'
    this.deadline = Infinity
    this.parts.watch.remove(this)
  }

  /** Ends the connection: what was written still goes out, what still comes is thrown away. */
  close(): void {
    if (this.#phase === 'closed' || this.#phase === 'linger') return
    this.#phase = 'linger'
    this.#input.clear()
    this.#count()
    // A caller that is slow to read has as long as with any response; see `onDrain`.
    this.expectWithin(this.settings.responseIdleMs)
    const { caller } = this.parts
    caller.resume()
    caller.end()
  }

  /** Takes heads as long as there is a whole one, nothing is under way and the caller reads. */
  #advance(): void {
    if (this.#advancing) return
    this.#advancing = true
    let took = true
    while (took && this.#phase === 'head' && !this.#full) took = this.#takeHead()
    this.#advancing = false
    this.#count()
    if (this.#phase !== 'head') return
    if (this.#full) this.parts.caller.pause()
    // What the caller sent before it ended was no whole request; nothing is owed.
    else if (this.#callerEnded) this.close()
    else this.parts.caller.resume()
  }

  #takeHead(): boolean {
    const input = this.#input
    if (input.size === 0) return false
    if (!this.#headBegun) {
      if (!input.skipEmptyLine()) return false
      const { first } = input
      if (first === undefined) return false
      if (!canBeginMethod(first)) {
        this.#begin().refuse('not-http', 'this service speaks HTTP/1.1 and nothing else')
        return true
      }
    }
    const { size } = input
    const text = input.takeHead()
    if (text === null) {
      if (!this.#headBegun) this.expectWithin(this.settings.headMs)
      this.#headBegun = true
      return false
    }
    const exchange = this.#begin()
    const head = typeof text === 'string' ? this.#read(text) : text
    if (head.kind === 'fault') exchange.refuse(head.reason, head.problem)
    else exchange.begin(head, size - input.size)
    return true
  }

  #read(text: string): RequestHead | HeadFault {
    const last = this.#lastHead
    if (last !== null && text === this.#lastText) return last
    const head = readRequestHead(text, this.#limits, last?.reading)
    if (head.kind === 'request') {
      this.#lastHead = text.length <= mostKnown ? head : null
      this.#lastText = text.length <= mostKnown ? text : ''
    }
    return head
  }

  /** A request is under way. */
  #begin(): Exchange {
    this.#phase = 'exchange'
    this.#headBegun = false
    this.#exchange ??= new Exchange(this)
    return this.#exchange
  }

  /** The exchange of the request under way. */
  get #current(): Exchange {
    return this.#exchange as Exchange
  }

  get #waitsEnough(): boolean {
    return this.#input.size >= mostWaiting[this.parts.steps.direction]
  }

  /** Counts what waits. Whoever adds to what is too much on this host is refused, and loses it. */
  #count(): void {
    const more = this.#input.size - this.#counted
    if (more === 0) return
    this.#counted += more
    if (this.parts.held?.add(more) !== false || more < 0) return
    this.#draining = true
    if (this.#phase === 'head') this.#begin().refuse('overloaded', tooMuch)
    else this.#current.overloaded(tooMuch)
  }

  /** A host may have ten thousand connections that wait: each gives back what serves requests only. */
  #rest(): void {
    this.deadline = this.#idleUntil
    this.#idleUntil = 0
    this.#exchange = null
    this.#lastHead = null
    this.#lastText = ''
    this.parts.steps.rest()
  }

  #leave(): void {
    this.#phase = 'closed'
    this.#input.clear()
    this.#count()
    this.deadline = Infinity
    this.parts.watch.remove(this)
  }
}

/** Whether a byte can begin a method; a TLS hello's or another protocol's cannot. */
function canBeginMethod(byte: number): boolean {
  return byte > 0x20 && byte < 0x7f
}
