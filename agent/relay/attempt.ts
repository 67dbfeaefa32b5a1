/**
 * Owns one attempt at a request: opens or takes up a channel of one upstream, writes what the
 * exchange gives it, reads the response strictly, and in the end keeps the channel or lets it go.
 * It decides neither whether to try again nor what the caller is told. Used again after a clean end.
 */

import { BodyReader, type BodyForm, type BodySink } from '#agent/http1/body-reader.ts'
import { HeadInput } from '#agent/http1/head-input.ts'
import { needsMore, refused, type HeadLimits } from '#agent/http1/head.ts'
import { ParsedResponse } from '#agent/http1/parsed-response.ts'
import type { Channel, ChannelError, ChannelSink, Opener } from '#agent/platform.ts'
import type { Reason } from '#shared/model/reason.ts'
import { Farewell } from './farewell.ts'
import { giveBack } from './giving-back.ts'
import { JoinedWriter } from './joined-writer.ts'
import type { RelayWatch } from './relay-watch.ts'
import { nobody } from './silence.ts'
import type { AttemptResult, Upstream } from './upstream.ts'

/** The exchange, as its attempt sees it. */
export interface AttemptOwner {
  /** The request goes out now. */
  attemptOpened(): void
  attemptFailed(reason: Reason, detail: string): void
  /** The channel ended before the response was whole. */
  attemptLost(error: ChannelError | null): void
  /** The upstream takes more. */
  attemptDrained(): void
  /** A final head; answers how its body goes on, or null when the response is not wanted. */
  responseBegins(response: ParsedResponse): BodyForm | null
  /** Bytes of the response's body in the form asked for. */
  responseBytes(piece: Buffer): void
  responseText(text: string): void
  /** 100, 103 and the like. */
  responseInforms(response: ParsedResponse): void
  /** A 101, and the bytes behind it. */
  responseSwitches(response: ParsedResponse, rest: Buffer | null): void
  responseIsBad(problem: string): void
  /** The response is whole. */
  responseEnds(channel: ChannelFate): void
  /** What came in one piece has been read. */
  responsePauses(): void
}

/** What a response leaves of its channel: fit for another request, to be let go, or with bytes too many. */
export type ChannelFate = 'fit' | 'leaving' | 'spoilt'

/** How long an upstream may take to close after it said that it would. */
const farewellMs = 5000
/** 1xx responses before the final one; more are an attack on the caller's patience. */
const mostInforming = 32

type Phase = 'unused' | 'opening' | 'head' | 'body' | 'over'

/** See the header. */
export class Attempt implements Opener, ChannelSink, BodySink {
  readonly #owner: AttemptOwner
  readonly #watch: RelayWatch
  readonly #limits: HeadLimits
  readonly #response = new ParsedResponse()
  readonly #input: HeadInput
  readonly #body: BodyReader
  #phase: Phase = 'unused'
  #upstream: Upstream | null = null
  #method = ''
  #informed = 0
  /** The request is written here. */
  readonly out = new JoinedWriter()
  /** Whether the channel had served other requests. */
  isReused = false
  /** Whether any byte of a response has come: from then on nothing is repeated. */
  hasAnswered = false

  constructor(
    parts: { readonly owner: AttemptOwner; readonly watch: RelayWatch },
    limits: HeadLimits,
  ) {
    this.#owner = parts.owner
    this.#watch = parts.watch
    this.#limits = limits
    this.#input = new HeadInput(limits)
    this.#body = new BodyReader({ sink: this }, limits)
  }

  get upstream(): Upstream {
    return this.#upstream as Upstream
  }

  /** Whether the request can be written. */
  get isOpen(): boolean {
    return this.out.channel !== null
  }

  get isOpening(): boolean {
    return this.#phase === 'opening'
  }

  /** Tries an upstream; on a kept-alive channel only where `mayReuse`. */
  start(upstream: Upstream, method: string, mayReuse: boolean): void {
    this.#upstream = upstream
    this.#method = method
    this.#informed = 0
    this.hasAnswered = false
    upstream.started()
    const idle = mayReuse ? upstream.takeIdle() : null
    this.isReused = idle !== null
    if (idle !== null) {
      this.#take(idle)
      return
    }
    this.#phase = 'opening'
    upstream.open(this)
  }

  onOpen(channel: Channel): void {
    if (this.#phase === 'opening') this.#take(channel)
    // Nothing was sent on it: it is as good as new for somebody else.
    else this.upstream.release(channel)
  }

  onOpenFailed(reason: Reason, detail: string): void {
    if (this.#phase !== 'opening') return
    this.#phase = 'unused'
    this.#owner.attemptFailed(reason, detail)
  }

  #take(channel: Channel): void {
    this.out.attach(channel)
    this.#phase = 'head'
    channel.sink = this
    this.#owner.attemptOpened()
  }

  // ---- the response

  onData(chunk: Buffer): void {
    this.hasAnswered = true
    if (this.#phase === 'head') this.#readHeads(chunk)
    else if (this.#phase === 'body') this.#readBody(chunk, 0)
    if (this.#phase !== 'over') this.#owner.responsePauses()
  }

  onBody(piece: Buffer): void {
    this.#owner.responseBytes(piece)
  }

  onBodyText(text: string): void {
    this.#owner.responseText(text)
  }

  /** Reads heads up to the final one, and what follows it. */
  #readHeads(chunk: Buffer): void {
    const isGathered = !this.#input.isEmpty
    if (isGathered && !this.#gather(chunk)) return
    const bytes = isGathered ? this.#input.take() : chunk
    let at = 0
    while (at < bytes.length && this.#phase === 'head') {
      const end = this.#response.read(bytes, at, this.#method, this.#limits)
      if (end === refused || (end === needsMore && isGathered && at === 0)) {
        this.#owner.responseIsBad(this.#response.fault.problem)
        return
      }
      if (end === needsMore) {
        this.#gather(bytes.subarray(at))
        return
      }
      at = end
      if (!this.#takeHead(bytes, at)) return
    }
    if (this.#phase === 'body') this.#readBody(bytes, at)
  }

  /** Keeps part of a head; true when it can be read. */
  #gather(piece: Buffer): boolean {
    switch (this.#input.add(piece)) {
      case 'partial':
        return false
      case 'ready':
        return true
      case 'too-large':
        this.#owner.responseIsBad(`the head is larger than ${this.#limits.maxBytes} bytes`)
        return false
    }
  }

  /** Acts on a head; false when this attempt has nothing more to read. */
  #takeHead(bytes: Buffer, at: number): boolean {
    const response = this.#response
    if (response.status >= 200) {
      const form = this.#owner.responseBegins(response)
      if (form === null) return false
      this.#body.begin(
        response.framing,
        response.contentLength,
        form,
        response.connection.nominated,
      )
      this.#phase = 'body'
      return true
    }
    if (response.status === 101) {
      const rest = at < bytes.length ? bytes.subarray(at) : null
      this.#owner.responseSwitches(response, rest)
      return false
    }
    if (++this.#informed > mostInforming) {
      this.#owner.responseIsBad(`more than ${mostInforming} informing responses`)
      return false
    }
    this.#owner.responseInforms(response)
    return this.#phase === 'head'
  }

  #readBody(bytes: Buffer, from: number): void {
    const end = this.#body.read(bytes, from)
    if (end < 0) this.#owner.responseIsBad(this.#body.problem)
    else if (this.#body.isWhole) {
      const { keepAlive, connectionAuth } = this.#response
      const isFit = keepAlive && !connectionAuth
      this.#owner.responseEnds(end < bytes.length ? 'spoilt' : isFit ? 'fit' : 'leaving')
    }
  }

  onEnd(): void {
    if (this.#phase === 'body' && this.#body.endOfInput()) this.#owner.responseEnds('leaving')
    else this.#lose(null)
  }

  onDrain(): void {
    this.#owner.attemptDrained()
  }

  onClose(error: ChannelError | null): void {
    if (this.#phase === 'body' && error === null && this.#body.endOfInput()) {
      this.#owner.responseEnds('leaving')
    } else this.#lose(error)
  }

  #lose(error: ChannelError | null): void {
    if (this.#phase === 'head' || this.#phase === 'body') this.#owner.attemptLost(error)
  }

  pause(): void {
    this.out.channel?.pause()
  }

  resume(): void {
    this.out.channel?.resume()
  }

  // ---- the end

  /** Keeps the channel for another request; the attempt may start anew. */
  release(): void {
    const channel = this.#end('unused')
    if (channel === null) return
    if (channel.closed) channel.sink = nobody
    else giveBack(channel, this.upstream)
  }

  /** Lets a channel go that has served; what was written still goes out. */
  close(): void {
    const channel = this.#end('over')
    if (channel !== null) {
      new Farewell({ channel, watch: this.#watch }, { withinMs: farewellMs }).start()
    }
  }

  /** Breaks off. */
  abort(): void {
    const channel = this.#end('over')
    if (channel === null) return
    channel.sink = nobody
    channel.abort()
  }

  /** Hands the channel to somebody else for good. */
  surrender(): Channel | null {
    return this.#end('over')
  }

  /** Tells the upstream how it went. */
  finish(result: AttemptResult): void {
    this.#upstream?.finished(result)
  }

  #end(phase: 'unused' | 'over'): Channel | null {
    this.#phase = phase
    this.#input.clear()
    this.#response.fields.forget()
    return this.out.detach()
  }
}
