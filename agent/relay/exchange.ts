/**
 * Owns one request at a time of a caller connection: sends it to the upstream the journey chose,
 * again to another where that is safe, and its response back, both under backpressure; keeps or
 * drops the upstream's channel; writes the one record. One object serves a connection's whole life.
 * Longer than most: every way an exchange can end stands here, so that none can end it twice.
 */

import { BodyReader } from '#agent/http1/body.ts'
import {
  readResponseHead,
  type Fields,
  type RequestHead,
  type ResponseHead,
} from '#agent/http1/head.ts'
import {
  isChunkedFor,
  writeLastChunk,
  writeRequestHead,
  writeResponseHead,
} from '#agent/http1/serialise.ts'
import type { Channel, ChannelError, ChannelSink, Opener } from '#agent/platform.ts'
import type { Reason } from '#shared/model/reason.ts'
import { RequestBodySink, ResponseBodySink, UpstreamSink, writeChunk } from './exchange-sinks.ts'
import type { HttpRelay } from './http-relay.ts'
import { answers, neverReached, statusOf, writeReply } from './replies.ts'
import { requestFields, requestIdOf, valueOf } from './own-fields.ts'
import type { AttemptResult, Decision, Upstream } from './upstream.ts'

/** Methods whose repetition does no more than one execution (RFC 9110 §9.2.2). */
const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])
/** Reasons that are the caller's or this side's, not the instance's. */
const ownFault: ReadonlySet<Reason> = new Set(['policy-denied', 'no-credential', 'overloaded'])
/** Pieces up to this are written together with what frames them. */
const joinable = 4096
const emptyLine = Buffer.from('\r\n\r\n')
const nobody: ChannelSink = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }

type Forward = Extract<Decision, { kind: 'forward' }>

/** See the header. */
export class Exchange implements Opener {
  readonly #relay: HttpRelay
  readonly #requestBody: BodyReader
  readonly #responseBody: BodyReader
  readonly #upstreamSink: ChannelSink
  #active = false
  #head: RequestHead | null = null
  #headText = ''
  #decision: Decision | null = null
  #upstream: Upstream | null = null
  /** The upstream of the last attempt, for the record. */
  #lastUpstream: Upstream | null = null
  #channel: Channel | null = null
  #opening = false
  #attempts = 0
  #startedAt = 0
  #startedElapsed = 0
  #requestId = ''
  #requestDone = false
  /** What was sent of the request's body, while it may have to be sent again; null past the limit. */
  #held: Buffer[] | null = null
  #heldBytes = 0
  #lastChunk = ''
  #responsePhase: 'head' | 'body' | 'done' = 'head'
  #responseInput: Buffer | null = null
  #response: ResponseHead | null = null
  #responseBytes = false
  #chunkedToCaller = false
  #keepCaller = true
  #poisoned = false
  /** Why the peer agent answered in its own name; ok for the service's answer. */
  #peerReason: Reason = 'ok'
  #isBytes = false
  #status = 0
  #bytesIn = 0
  #bytesOut = 0

  constructor(relay: HttpRelay) {
    this.#relay = relay
    const { head } = relay.settings
    this.#requestBody = new BodyReader(new RequestBodySink(this), head)
    this.#responseBody = new BodyReader(new ResponseBodySink(this), head)
    this.#upstreamSink = new UpstreamSink(this)
  }

  // ---- from the caller's side

  /** A request begins. */
  begin(head: RequestHead, headBytes: number): void {
    const { steps } = this.#relay.parts
    this.#reset(headBytes)
    this.#head = head
    this.#requestId = requestIdOf(head, steps.direction, this.#relay.parts.random)
    if (head.method === 'TRACE' || head.method === 'CONNECT') {
      this.#reply('method-refused', `${head.method} is not carried by the mesh`)
      return
    }
    if (head.upgrade !== '' && head.body.kind !== 'none') {
      this.#reply('upgrade-refused', 'a request that asks for an upgrade must not carry a body')
      return
    }
    const decision = steps.decide(head)
    this.#decision = decision
    this.#requestDone = head.body.kind === 'none'
    this.#relay.expectWithin(this.#relay.settings.responseIdleMs)
    if (decision.kind === 'refuse') {
      this.#reply(decision.reason, decision.detail)
      return
    }
    this.#headText = writeRequestHead(
      head,
      steps.direction === 'outbound' ? 'caller' : 'peer-agent',
      requestFields(head, steps, this.#requestId),
    )
    this.#requestBody.begin(head.body)
    this.#attempt(decision.upstream)
  }

  /** Bytes that are no request are answered and recorded all the same. */
  refuseHead(reason: Reason, status: number, detail: string): void {
    this.#reset(0)
    this.#requestId = requestIdOf(null, this.#relay.parts.steps.direction, this.#relay.parts.random)
    this.#status = status
    this.#reply(reason, detail)
  }

  /** Bytes while the exchange runs: of its body, or of a later request. */
  fromCaller(chunk: Buffer): void {
    if (!this.#requestBody.open || this.#opening) {
      this.#relay.holdBack(chunk)
      return
    }
    this.#feedRequest(chunk)
  }

  callerEnded(): void {
    if (this.#isBytes) {
      this.#channel?.end()
      return
    }
    if (!this.#requestDone) this.callerGone()
  }

  callerDrained(): void {
    this.#channel?.resume()
  }

  /** The caller is gone: nobody waits for an answer. */
  callerGone(): void {
    if (!this.#active) return
    this.#dropChannel('abandoned')
    this.#record('caller-aborted', this.#status === 0 ? statusOf('caller-aborted') : this.#status)
    this.#relay.parts.caller.abort()
  }

  timedOut(): void {
    if (!this.#active) return
    if (!this.#requestDone && !this.#opening) {
      this.#fail('body-timeout', 'the body of the request stalled')
    } else this.#fail('response-timeout', 'the service did not answer in time')
  }

  /** After a 101: bytes as they come. */
  bytesFromCaller(chunk: Buffer): void {
    this.#bytesIn += chunk.length
    if (this.#channel?.write(chunk) === false) this.#relay.parts.caller.pause()
  }

  // ---- attempts

  onOpen(channel: Channel): void {
    if (!this.#opening) {
      channel.sink = nobody
      channel.abort()
      return
    }
    this.#opening = false
    this.#send(channel)
  }

  onOpenFailed(reason: Reason, detail: string): void {
    if (!this.#opening) return
    this.#opening = false
    const failed = this.#upstream as Upstream
    // A refusal for the caller's sake says nothing against the instance.
    this.#finishAttempt(ownFault.has(reason) ? 'abandoned' : 'connect-failed')
    if (this.#held !== null && this.#repeat(failed, reason)) return
    this.#reply(reason, detail)
  }

  #attempt(upstream: Upstream): void {
    this.#attempts++
    this.#upstream = upstream
    this.#responsePhase = 'head'
    this.#responseInput = null
    this.#responseBytes = false
    upstream.started()
    const idle = upstream.takeIdle()
    if (idle !== null) {
      this.#send(idle)
      return
    }
    this.#opening = true
    if (!this.#requestDone) this.#relay.parts.caller.pause()
    upstream.open(this)
  }

  /** Another attempt, if the journey knows where. */
  #repeat(failed: Upstream, reason: Reason): boolean {
    if (this.#attempts >= this.#relay.settings.maxAttempts) return false
    const next = this.#relay.parts.steps.again(failed, reason)
    if (next === null) return false
    this.#attempt(next)
    return true
  }

  #send(channel: Channel): void {
    this.#channel = channel
    channel.sink = this.#upstreamSink
    const first = this.#attempts === 1 || this.#heldBytes === 0
    const input = this.#requestBody.open ? this.#relay.takeInput() : null
    const head = this.#head as RequestHead
    if (
      first &&
      input !== null &&
      head.body.kind === 'length' &&
      input.length >= head.body.length &&
      head.body.length <= joinable
    ) {
      this.#sendWhole(channel, input, head.body.length)
      return
    }
    let fits = channel.writeText(this.#headText)
    for (const piece of this.#held ?? []) fits = this.#writeContent(channel, piece)
    if (this.#lastChunk !== '') fits = channel.writeText(this.#lastChunk)
    if (!this.#requestBody.open) return
    if (input !== null) this.#feedRequest(input)
    if (fits) this.#relay.parts.caller.resume()
  }

  /** A small request that is all there goes out in one write. */
  #sendWhole(channel: Channel, input: Buffer, length: number): void {
    const content = input.subarray(0, length)
    this.#held?.push(content)
    this.#heldBytes = length
    this.#bytesIn += length
    this.#requestBody.begin({ kind: 'none' })
    channel.writeText(this.#headText + content.toString('latin1'))
    if (input.length > length) this.#relay.holdBack(input.subarray(length))
    else this.#relay.parts.caller.resume()
  }

  #feedRequest(chunk: Buffer): void {
    this.#relay.expectWithin(this.#relay.settings.bodyIdleMs)
    const fed = this.#requestBody.feed(chunk, 0)
    if (typeof fed !== 'number') {
      this.#fail('bad-request', fed.problem)
      return
    }
    if (fed < chunk.length && this.#active) this.#relay.holdBack(chunk.subarray(fed))
  }

  /** For the body reader. */
  requestContent(content: Buffer): void {
    this.#bytesIn += content.length
    if (this.#held !== null) {
      this.#heldBytes += content.length
      if (this.#heldBytes > this.#relay.settings.maxHeldBytes) this.#held = null
      else this.#held.push(content)
    }
    const channel = this.#channel
    if (channel !== null && !this.#writeContent(channel, content)) this.#relay.parts.caller.pause()
  }

  /** For the body reader. */
  requestEnd(trailers: Fields): void {
    this.#requestDone = true
    if (this.#head?.body.kind === 'chunked') {
      this.#lastChunk = writeLastChunk(trailers)
      this.#channel?.writeText(this.#lastChunk)
    }
    this.#relay.expectWithin(this.#relay.settings.responseIdleMs)
  }

  #writeContent(channel: Channel, content: Buffer): boolean {
    return this.#head?.body.kind === 'chunked'
      ? writeChunk(channel, content)
      : channel.write(content)
  }

  // ---- from the upstream's side

  /** For the upstream's sink. */
  fromUpstream(chunk: Buffer): void {
    if (this.#isBytes) {
      this.#bytesOut += chunk.length
      if (!this.#relay.parts.caller.write(chunk)) this.#channel?.pause()
      return
    }
    this.#responseBytes = true
    switch (this.#responsePhase) {
      case 'head':
        this.#responseInput =
          this.#responseInput === null ? chunk : Buffer.concat([this.#responseInput, chunk])
        this.#takeResponseHeads()
        break
      case 'body':
        this.#feedResponse(chunk, 0)
        break
      case 'done':
        this.#poisoned = true
        break
    }
  }

  upstreamEnded(): void {
    if (this.#isBytes) {
      this.#relay.parts.caller.end()
      return
    }
    if (this.#responsePhase === 'body' && this.#responseBody.endOfInput()) return
    this.#lost()
  }

  upstreamDrained(): void {
    if (!this.#opening) this.#relay.parts.caller.resume()
  }

  upstreamClosed(error: ChannelError | null): void {
    if (this.#isBytes) {
      this.#channel = null
      this.#finishAttempt('ok')
      this.#record('ok', this.#status)
      if (error === null) this.#relay.close()
      else this.#relay.parts.caller.abort()
      return
    }
    if (this.#responsePhase === 'body' && error === null && this.#responseBody.endOfInput()) return
    this.#lost()
  }

  /** The channel ended before the response was whole. */
  #lost(): void {
    if (!this.#active) return
    const failed = this.#upstream as Upstream
    const reason: Reason = failed.mtls ? 'tunnel-lost' : 'instance-aborted'
    this.#dropChannel('reset')
    const head = this.#head as RequestHead
    const safe = !this.#responseBytes && this.#held !== null && idempotent.has(head.method)
    if (safe && this.#repeat(failed, reason)) return
    this.#fail(reason, 'the connection ended before the service had answered')
  }

  #takeResponseHeads(): void {
    while (this.#active && this.#responsePhase === 'head' && this.#responseInput !== null) {
      const input = this.#responseInput
      const end = input.indexOf(emptyLine)
      const { head: limits } = this.#relay.settings
      if ((end < 0 ? input.length : end) > limits.maxBytes) {
        this.#fail('bad-response', 'the head of the response is too large')
        return
      }
      if (end < 0) return
      const rest = input.length > end + 4 ? input.subarray(end + 4) : null
      const request = this.#head as RequestHead
      const head = readResponseHead(input.toString('latin1', 0, end), request.method, limits)
      if (head.kind === 'fault') {
        this.#fail('bad-response', head.problem)
        return
      }
      this.#responseInput = rest
      if (head.status === 101) this.#switchProtocols(head)
      else if (head.status < 200) this.#inform(head)
      else this.#respond(head)
    }
  }

  /** 100, 103 and the like go on to callers that know them. */
  #inform(head: ResponseHead): void {
    const request = this.#head as RequestHead
    if (!request.http11) return
    this.#toCaller(writeResponseHead(head, this.#responseOrigin, 'none', '', request.method, true))
  }

  #switchProtocols(head: ResponseHead): void {
    const request = this.#head as RequestHead
    if (request.upgrade === '' || head.upgrade === '') {
      this.#fail('bad-response', 'the service switched protocols unasked')
      return
    }
    this.#status = 101
    this.#toCaller(
      writeResponseHead(head, this.#responseOrigin, 'upgrade', '', request.method, true),
    )
    this.#isBytes = true
    this.#relay.becomeBytes()
    const early = this.#relay.takeInput()
    if (early !== null) this.bytesFromCaller(early)
    const rest = this.#responseInput
    this.#responseInput = null
    if (rest !== null) this.fromUpstream(rest)
  }

  #respond(head: ResponseHead): void {
    const request = this.#head as RequestHead
    const upstream = this.#upstream as Upstream
    const refusal = upstream.mtls ? valueOf(head.fields, 'x-mesh-reason') : ''
    this.#peerReason = refusal in answers ? (refusal as Reason) : 'ok'
    if (neverReached.has(refusal) && this.#held !== null) {
      this.#dropChannel('connect-failed')
      if (this.#repeat(upstream, refusal as Reason)) return
      this.#upstream = upstream
    }
    this.#response = head
    this.#status = head.status
    // Early bytes of a refused upgrade are no next request.
    const early = request.upgrade !== '' && this.#relay.hasInput
    this.#chunkedToCaller = isChunkedFor(head.body, request.http11)
    this.#keepCaller =
      request.keepAlive &&
      this.#requestDone &&
      !early &&
      !this.#relay.lastRequest &&
      (request.http11 || head.body.kind === 'length' || head.body.kind === 'none')
    const { steps } = this.#relay.parts
    // Towards a peer agent `close` says that this stream must not be used again.
    const keep = this.#keepCaller && (steps.direction === 'outbound' || !head.connectionAuth)
    this.#keepCaller = keep
    const text = writeResponseHead(
      head,
      this.#responseOrigin,
      keep ? 'keep-alive' : 'close',
      '',
      request.method,
      request.http11,
    )
    const rest = this.#responseInput
    this.#responseInput = null
    this.#relay.expectWithin(this.#relay.settings.responseIdleMs)
    if (
      head.body.kind === 'length' &&
      rest !== null &&
      rest.length === head.body.length &&
      rest.length <= joinable
    ) {
      this.#toCaller(text + rest.toString('latin1'))
      this.#responsePhase = 'done'
      this.#complete()
      return
    }
    this.#toCaller(text)
    this.#responsePhase = 'body'
    this.#responseBody.begin(head.body)
    if (rest !== null) this.#feedResponse(rest, 0)
  }

  #feedResponse(chunk: Buffer, at: number): void {
    const open = this.#responseBody.open
    if (!open) {
      this.#poisoned = true
      return
    }
    this.#relay.expectWithin(this.#relay.settings.responseIdleMs)
    // The end of the body completes the exchange before `feed` returns, so extra bytes are judged
    // first: only a body of known length can end inside a piece unnoticed.
    const fed = this.#responseBody.feed(chunk, at)
    if (typeof fed !== 'number') this.#fail('bad-response', fed.problem)
    else if (fed < chunk.length) this.#poisoned = true
  }

  /** For the body reader. */
  responseContent(content: Buffer): void {
    this.#bytesOut += content.length
    const { caller } = this.#relay.parts
    const fits = this.#chunkedToCaller ? writeChunk(caller, content) : caller.write(content)
    if (!fits) this.#channel?.pause()
  }

  /** For the body reader. */
  responseEnd(trailers: Fields): void {
    if (this.#responsePhase !== 'body') return
    if (this.#chunkedToCaller) this.#toCaller(writeLastChunk(trailers))
    this.#responsePhase = 'done'
    // Bytes after the end are only known once the reader has stopped.
    queueMicrotask(() => this.#complete())
  }

  get #responseOrigin(): 'service' | 'peer-agent' {
    const { steps } = this.#relay.parts
    return steps.direction === 'outbound' && this.#upstream?.mtls === true
      ? 'peer-agent'
      : 'service'
  }

  // ---- ends

  /** The response is whole. */
  #complete(): void {
    if (!this.#active || this.#responsePhase !== 'done') return
    const head = this.#response as ResponseHead
    const channel = this.#channel
    const upstream = this.#upstream as Upstream
    this.#channel = null
    if (channel !== null) {
      const reusable =
        head.keepAlive &&
        this.#requestDone &&
        !this.#poisoned &&
        !head.connectionAuth &&
        this.#head?.connectionAuth === false &&
        !channel.closed
      channel.sink = nobody
      channel.resume()
      if (reusable) upstream.release(channel)
      else if (head.keepAlive) channel.abort()
      else channel.end()
    }
    this.#finishAttempt(head.status >= 500 ? 'server-error' : 'ok')
    this.#record(this.#peerReason, head.status)
    if (this.#keepCaller) this.#relay.next()
    else this.#relay.close()
  }

  /** Something went wrong: told to the caller if nothing was said yet, else by a reset. */
  #fail(reason: Reason, detail: string): void {
    if (!this.#active) return
    const said = this.#response !== null || this.#isBytes
    this.#dropChannel(
      reason === 'bad-response' || reason === 'response-timeout' ? 'reset' : 'abandoned',
    )
    if (!said) {
      this.#reply(reason, detail)
      return
    }
    this.#record(reason, this.#status)
    this.#relay.parts.caller.abort()
  }

  /** Answers in the mesh's own name. */
  #reply(reason: Reason, detail: string): void {
    const status = this.#status === 0 ? statusOf(reason) : this.#status
    const head = this.#head
    const keep =
      head !== null &&
      head.keepAlive &&
      head.body.kind === 'none' &&
      head.upgrade === '' &&
      !this.#relay.lastRequest &&
      (this.#decision !== null || reason === 'method-refused')
    this.#toCaller(
      writeReply({
        reason,
        status,
        detail,
        requestId: this.#requestId,
        close: !keep,
        method: head?.method ?? '',
      }),
    )
    this.#record(reason, status)
    if (keep) this.#relay.next()
    else this.#relay.close()
  }

  #toCaller(text: string): void {
    this.#bytesOut += text.length
    if (!this.#relay.parts.caller.writeText(text)) this.#channel?.pause()
  }

  #finishAttempt(result: AttemptResult): void {
    this.#upstream?.finished(result)
    if (this.#upstream !== null) this.#lastUpstream = this.#upstream
    this.#upstream = null
  }

  #dropChannel(result: AttemptResult): void {
    const channel = this.#channel
    this.#channel = null
    this.#opening = false
    if (channel !== null) {
      channel.sink = nobody
      channel.abort()
    }
    this.#finishAttempt(result)
  }

  #record(reason: Reason, status: number): void {
    this.#active = false
    const { steps, outcomes, clock } = this.#relay.parts
    const decision = this.#decision
    const forward: Forward | null = decision?.kind === 'forward' ? decision : null
    const upstream = forward === null ? null : (this.#upstream ?? this.#lastUpstream)
    outcomes.record({
      direction: steps.direction,
      protocol: 'http',
      source: steps.source,
      destination: decision?.destination ?? null,
      service: decision?.service ?? null,
      host: upstream?.host ?? null,
      instance: upstream?.instance ?? null,
      method: this.#head?.method ?? '',
      path: this.#head?.target ?? '',
      status,
      reason,
      bytesFromCaller: this.#bytesIn,
      bytesToCaller: this.#bytesOut,
      startedAt: this.#startedAt,
      durationMs: clock.elapsed() - this.#startedElapsed,
      attempts: this.#attempts,
      mtls: steps.direction === 'inbound' ? steps.mtls : (upstream?.mtls ?? false),
      requestId: this.#requestId,
    })
  }

  #reset(headBytes: number): void {
    const { clock } = this.#relay.parts
    this.#active = true
    this.#head = null
    this.#headText = ''
    this.#decision = null
    this.#upstream = null
    this.#lastUpstream = null
    this.#channel = null
    this.#opening = false
    this.#attempts = 0
    this.#startedAt = clock.now()
    this.#startedElapsed = clock.elapsed()
    this.#requestDone = true
    this.#held = []
    this.#heldBytes = 0
    this.#lastChunk = ''
    this.#responsePhase = 'head'
    this.#responseInput = null
    this.#response = null
    this.#responseBytes = false
    this.#chunkedToCaller = false
    this.#keepCaller = true
    this.#poisoned = false
    this.#peerReason = 'ok'
    this.#isBytes = false
    this.#status = 0
    this.#bytesIn = headBytes
    this.#bytesOut = 0
  }
}
