/**
 * Owns one request at a time of a caller connection: sends it to the upstream the journey chose,
 * again to another where that is safe, and its response back, both under backpressure; keeps or
 * drops the upstream's channel; writes the one record. One object serves a connection's whole life.
 * Longer than most: every way an exchange can end stands here, so that none can end it twice.
 */

import { BodyReader } from '#agent/http1/body.ts'
import { valueOf, type FieldReading } from '#agent/http1/field-lines.ts'
import { tooLarge, withRoom, type HeadFault, type HeadLimits } from '#agent/http1/head-fault.ts'
import { HeadInput } from '#agent/http1/head-input.ts'
import { readResponseHead, type RequestHead, type ResponseHead } from '#agent/http1/head.ts'
import {
  isChunkedFor,
  writeLastChunk,
  writeRequestHead,
  writeResponseHead,
} from '#agent/http1/serialise.ts'
import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'
import type { RuleRef } from '#shared/model/policy.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { Refusal } from '#shared/policy/refusal.ts'
import { giveBack } from './giving-back.ts'
import type { HttpRelay } from './http-relay.ts'
import { Opening, type Waiting } from './opening.ts'
import { OwnFields } from './own-fields.ts'
import { authorityOutside, type OutsideName } from './outside-name.ts'
import { Parting } from './parting.ts'
import { answers, neverReached, statusOf, writeReply } from './replies.ts'
import { discard } from './silence.ts'
import { Splice, type SpliceEnd, type SpliceOwner } from './splice.ts'
import { reasonOf } from './tcp-relay.ts'
import type { AttemptResult, Decision, Upstream } from './upstream.ts'
import { writePiece } from './write-piece.ts'

/** Methods whose repetition does no more than one execution (RFC 9110 §9.2.2). */
const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])
/** Reasons that are the caller's or this side's, not the instance's. */
const ownFault: ReadonlySet<Reason> = new Set(['policy-denied', 'no-credential', 'overloaded'])
/** Of a head's last line; heads are measured without it. */
const lineEnd = 2
/** A body that came in more pieces is not held: each costs more than its bytes. */
const mostHeldPieces = 256

/** See the header. */
export class Exchange implements ChannelSink, Waiting, SpliceOwner {
  readonly #relay: HttpRelay
  readonly #own: OwnFields
  readonly #requestBody: BodyReader
  readonly #responseBody: BodyReader
  readonly #responseInput: HeadInput
  /** Limits of what a peer agent answers. */
  readonly #peerLimits: HeadLimits
  #active = false
  // the request
  #head: RequestHead | null = null
  #requestId = ''
  #startedElapsed = 0
  #decision: Decision | null = null
  /** The rule that ended the request after it had been allowed. */
  #revokedBy: RuleRef | null = null
  #headText = ''
  /** What of a head's text does not differ from request to request, and the head it is of. */
  #written = ''
  #writtenHead: RequestHead | null = null
  /** What was sent of the body, as long as it may have to be sent again. */
  #held: Buffer[] = []
  #heldBytes = 0
  /** Whether everything sent so far could be sent again. */
  #repeatable = true
  #lastChunk = ''
  /** Whether the caller waits to be asked for the body (RFC 9110 §10.1.1). */
  #unasked = false
  // the attempt
  #attempts = 0
  #upstream: Upstream | null = null
  /** The upstream of the last attempt, for the record. */
  #lastUpstream: Upstream | null = null
  #opening: Opening | null = null
  #channel: Channel | null = null
  /** The channel takes no more for now. */
  #channelFull = false
  /** Whether the answer began before all of the request was out. */
  #early = false
  /** Whether anything has come back. */
  #answered = false
  // the response
  #response: ResponseHead | null = null
  /** The last head's fields. */
  #reading: FieldReading | null = null
  /** Whether the caller has got the head of a final response. */
  #said = false
  #status = 0
  #chunkedToCaller = false
  #keepCaller = false
  /** Why a peer agent answered in its own name; ok for the service's answer. */
  #peerReason: Reason = 'ok'
  #bytesIn = 0
  #bytesOut = 0

  constructor(relay: HttpRelay) {
    const { head } = relay.settings
    this.#relay = relay
    this.#own = new OwnFields(relay.parts)
    this.#requestBody = new BodyReader(head)
    this.#responseBody = new BodyReader(head)
    this.#peerLimits = withRoom(head)
    this.#responseInput = new HeadInput(this.#peerLimits)
  }

  // ---- from the caller's side

  /** A request begins. */
  begin(head: RequestHead, headBytes: number): void {
    const { steps } = this.#relay.parts
    this.#reset(head, headBytes)
    this.#requestBody.begin(head.body)
    this.#unasked = head.expectsContinue
    this.#relay.expectWithin(this.#relay.settings.responseIdleMs)
    if (head.method === 'TRACE') {
      this.#reply('method-refused', 'TRACE is not carried by the mesh')
      return
    }
    if (head.upgrade !== '' && head.body.kind !== 'none') {
      this.#reply('upgrade-refused', 'a request that asks for an upgrade must not carry a body')
      return
    }
    const decision = steps.decide(head)
    this.#decision = decision
    if (decision.kind === 'refuse') {
      this.#reply(decision.reason, decision.detail)
      return
    }
    const { outside } = decision.upstream
    if (outside !== undefined && authorityOutside(head.authority, outside) === null) {
      const detail = `a request to ${decision.service} may not name ${JSON.stringify(head.authority)}: its manifest has no such name, in "addresses", "serverName" or "intercept"`
      this.#reply('not-mesh-name', detail)
      return
    }
    if (outside === undefined) this.#writeHead(head)
    this.#attempt(decision.upstream)
  }

  #writeHead(head: RequestHead): void {
    const { direction } = this.#relay.parts.steps
    if (head !== this.#writtenHead) {
      const origin = direction === 'outbound' ? 'caller-request' : 'peer-request'
      this.#written = writeRequestHead(head, origin)
      this.#writtenHead = head
    }
    this.#headText = `${this.#written}${this.#own.linesOf(head, this.#requestId)}\r\n`
  }

  /** Written for each attempt: a service outside may have a name at each of its addresses. */
  #writeHeadOutside(head: RequestHead, outside: OutsideName): void {
    const authority = authorityOutside(head.authority, outside) ?? outside.authority
    const text = writeRequestHead(head, 'caller-request', authority)
    this.#headText = `${text}${this.#own.outsideLinesOf(this.#requestId)}\r\n`
  }

  /** Bytes that are no request are answered and recorded all the same. */
  refuse(reason: Reason, detail: string): void {
    this.#reset(null, 0)
    this.#reply(reason, detail)
  }

  /** Whether bytes from the caller are for `fromCaller` now. */
  get takesBody(): boolean {
    return this.#channel !== null && this.#requestBody.open
  }

  /** Bytes of the request's body, and perhaps beyond it. */
  fromCaller(piece: Buffer): void {
    this.#feedRequest('', piece)
  }

  /** The caller has ended its side; it may still read. */
  callerEnded(): void {
    if (this.takesBody) this.callerGone()
  }

  callerDrained(): void {
    this.#channel?.resume()
  }

  /** The caller is gone: nobody waits for an answer. */
  callerGone(): void {
    if (!this.#active) return
    this.#dropChannel('abandoned')
    this.#record('caller-aborted', this.#said ? this.#status : statusOf('caller-aborted'))
    this.#relay.parts.caller.abort()
  }

  /** Policy no longer allows the request under way. */
  revoke({ ref, reason, detail }: Refusal): void {
    if (!this.#active) return
    this.#revokedBy = ref
    this.#fail(reason, detail)
  }

  /** The host has no room for what its caller sends. */
  overloaded(detail: string): void {
    if (this.#active) this.#fail('overloaded', detail)
  }

  /** Nothing has moved for too long: whose turn was it? */
  timedOut(): void {
    if (!this.#active) return
    if (this.#waitsForCaller) {
      this.#fail('body-timeout', 'the body of the request stalled')
    } else if (this.#relay.callerIsFull) this.callerGone()
    else this.#fail('response-timeout', 'the service did not answer in time')
  }

  // ---- attempts

  /** For the opening. */
  opened(channel: Channel): void {
    this.#opening = null
    this.#send(channel)
  }

  /** For the opening. */
  openFailed(reason: Reason, detail: string): void {
    this.#opening = null
    const failed = this.#upstream as Upstream
    // A refusal for the caller's sake says nothing against the instance.
    this.#finishAttempt(ownFault.has(reason) ? 'abandoned' : 'connect-failed')
    const next = this.#elsewhere(failed, reason)
    if (next === null) this.#reply(reason, detail)
    else this.#attempt(next)
  }

  #attempt(upstream: Upstream): void {
    this.#attempts++
    this.#upstream = upstream
    if (upstream.outside !== undefined && this.#head !== null)
      this.#writeHeadOutside(this.#head, upstream.outside)
    this.#answered = false
    upstream.started()
    // A kept channel may have failed for being old; the next attempt does not take that risk again.
    const idle = this.#attempts === 1 ? upstream.takeIdle() : null
    if (idle !== null) {
      this.#send(idle)
      return
    }
    const opening = new Opening(this)
    this.#opening = opening
    upstream.open(opening)
  }

  /** Where the request may go after a failure; null where it must not be sent again. */
  #elsewhere(failed: Upstream, reason: Reason): Upstream | null {
    return this.#repeatable && this.#attempts < this.#relay.settings.maxAttempts
      ? this.#relay.parts.steps.again(failed, reason)
      : null
  }

  #send(channel: Channel): void {
    this.#channel = channel
    this.#channelFull = false
    this.#responseInput.clear()
    channel.sink = this
    let text = this.#headText
    for (const piece of this.#held) {
      this.#toUpstream(text, piece, '')
      text = ''
    }
    if (!this.#requestBody.open) {
      this.#toUpstream(text, null, this.#lastChunk)
      return
    }
    const input = this.#relay.takeInput()
    if (input !== null) this.#feedRequest(text, input)
    else {
      this.#toUpstream(text, null, '')
      this.#expectNext()
    }
    if (!this.#active) return
    if (this.#relay.callerHasEnded) this.callerEnded()
    else if (!this.#channelFull) this.#relay.readOn()
  }

  /** Takes a piece from the caller; `before` goes out with it. */
  #feedRequest(before: string, piece: Buffer): void {
    const body = this.#requestBody
    this.#unasked = false
    const fed = body.feed(piece)
    if (typeof fed !== 'number') {
      this.#fail('bad-request', fed.problem)
      return
    }
    const { content, open } = body
    if (content !== null) this.#hold(content)
    const head = this.#head as RequestHead
    if (!open && head.body.kind === 'chunked') {
      this.#lastChunk = writeLastChunk(body.trailers, head.nominated)
    }
    this.#toUpstream(before, content, this.#lastChunk)
    this.#expectNext()
    if (fed < piece.length) this.#relay.holdBack(piece.subarray(fed))
  }

  #hold(content: Buffer): void {
    this.#bytesIn += content.length
    if (!this.#repeatable) return
    const { parts, settings } = this.#relay
    this.#heldBytes += content.length
    this.#held.push(content)
    const hasRoom = parts.held?.add(content.length) !== false
    this.#repeatable =
      hasRoom && this.#heldBytes <= settings.maxHeldBytes && this.#held.length <= mostHeldPieces
    if (!this.#repeatable) this.#letGo()
  }

  /** Nothing is sent again. */
  #letGo(): void {
    if (this.#heldBytes === 0) return
    this.#relay.parts.held?.add(-this.#heldBytes)
    this.#held = []
    this.#heldBytes = 0
  }

  #toUpstream(before: string, content: Buffer | null, after: string): void {
    const chunked = this.#head?.body.kind === 'chunked'
    if (writePiece(this.#channel as Channel, before, content, chunked, after)) return
    this.#channelFull = true
    this.#relay.parts.caller.pause()
  }

  /** Whether it is the caller's turn, and nobody else's. */
  get #waitsForCaller(): boolean {
    return this.takesBody && !this.#channelFull && !this.#unasked
  }

  /** Whose turn it is has its time from now on. */
  #expectNext(): void {
    const { bodyIdleMs, responseIdleMs } = this.#relay.settings
    this.#relay.expectWithin(this.#waitsForCaller ? bodyIdleMs : responseIdleMs)
  }

  // ---- from the upstream's side

  onData(chunk: Buffer): void {
    this.#answered = true
    if (this.#response === null) {
      this.#responseInput.push(chunk)
      this.#takeResponseHeads()
    } else this.#feedResponse('', chunk)
  }

  onEnd(): void {
    if (this.#response !== null && this.#responseBody.endOfInput()) this.#endResponse('', null, 0)
    else this.#lost()
  }

  onDrain(): void {
    this.#channelFull = false
    this.#expectNext()
    this.#relay.readOn()
  }

  onClose(error: ChannelError | null): void {
    if (error === null) this.onEnd()
    else this.#lost()
  }

  /** The channel ended before the response was whole. */
  #lost(): void {
    const failed = this.#upstream as Upstream
    const reason: Reason = failed.mtls ? 'tunnel-lost' : 'instance-aborted'
    const safe = !this.#answered && idempotent.has(this.#head?.method ?? '')
    this.#dropChannel('reset')
    const next = safe ? this.#elsewhere(failed, reason) : null
    if (next === null) this.#fail(reason, 'the connection ended before the service had answered')
    else this.#attempt(next)
  }

  #takeResponseHeads(): void {
    while (this.#response === null && this.#channel !== null) {
      const text = this.#responseInput.takeHead()
      if (text === null) return
      const head = typeof text === 'string' ? this.#readResponse(text) : text
      if (head.kind === 'fault') {
        this.#fail('bad-response', head.problem)
        return
      }
      this.#reading = head.reading
      if (head.status === 101) this.#switchProtocols(head)
      else if (head.status < 200) this.#inform(head)
      else this.#respond(head)
    }
  }

  #readResponse(text: string): ResponseHead | HeadFault {
    const { method } = this.#head as RequestHead
    const limits = this.#upstream?.mtls === true ? this.#peerLimits : this.#relay.settings.head
    return text.length - lineEnd > limits.maxBytes
      ? tooLarge(limits.maxBytes)
      : readResponseHead(text, method, limits, this.#reading)
  }

  /** 100, 103 and the like go on to callers that know them. */
  #inform(head: ResponseHead): void {
    const request = this.#head as RequestHead
    if (!request.http11) return
    this.#toCaller(writeResponseHead(head, this.#responseOrigin, 'none', request), null, '')
    if (head.status !== 100 || !this.#unasked) return
    this.#unasked = false
    this.#expectNext()
  }

  #switchProtocols(head: ResponseHead): void {
    const request = this.#head as RequestHead
    if (!wasOffered(request.upgrade, head.upgrade)) {
      this.#fail('bad-response', 'the service switched to a protocol that nobody asked for')
      return
    }
    const { caller, watch } = this.#relay.parts
    const service = this.#channel as Channel
    this.#status = 101
    this.#toCaller(writeResponseHead(head, this.#responseOrigin, 'upgrade', request), null, '')
    this.#channel = null
    const fromCaller = this.#relay.takeInput()
    const fromService = this.#responseInput.takeAll()
    const splice = new Splice({ caller, service, watch, owner: this })
    splice.start({ fromCaller, fromService })
    if (this.#relay.callerHasEnded) service.end()
    this.#relay.handOver()
  }

  /** For the splice: whether the connection after a 101 may go on. */
  stillAllowed(): boolean {
    const refusal = this.#relay.parts.steps.reconsider(true)
    this.#revokedBy = refusal?.ref ?? null
    return refusal === null
  }

  /** For the splice: the connection after a 101 is over. */
  spliceOver(end: SpliceEnd, bytesFromCaller: number, bytesToCaller: number): void {
    const mtls = this.#upstream?.mtls === true
    this.#bytesIn += bytesFromCaller
    this.#bytesOut += bytesToCaller
    this.#finishAttempt(end === 'clean' ? 'ok' : end === 'service-lost' ? 'reset' : 'abandoned')
    this.#record(reasonOf(end, mtls), this.#status)
  }

  #respond(head: ResponseHead): void {
    const request = this.#head as RequestHead
    const upstream = this.#upstream as Upstream
    if (upstream.mtls && this.#wentElsewhere(head, upstream)) return
    this.#repeatable = false
    this.#letGo()
    const { steps } = this.#relay.parts
    const isFramed = head.body.kind === 'length' || head.body.kind === 'none'
    // A service that answers before it has the whole body may have read none, and takes the rest for
    // a request of its own: the answer to that would be another caller's.
    const waiting = (this.#channel as Channel).waitingBytes
    this.#early = this.#requestBody.open || this.#channelFull || waiting > 0
    this.#response = head
    this.#status = head.status
    this.#chunkedToCaller = isChunkedFor(head.body, request.http11)
    this.#keepCaller =
      request.keepAlive &&
      !this.#requestBody.open &&
      !this.#relay.lastRequest &&
      (request.http11 || isFramed) &&
      // What came early, or comes late, of a refused upgrade is no next request.
      request.upgrade === '' &&
      // Towards a peer agent `close` says that this stream must not be used again.
      (steps.direction === 'outbound' || !head.connectionAuth)
    const text = writeResponseHead(
      head,
      this.#responseOrigin,
      this.#keepCaller ? 'keep-alive' : 'close',
      request,
    )
    const rest = this.#responseInput.takeAll()
    this.#responseBody.begin(head.body)
    if (rest === null) this.#endResponse(text, null, 0)
    else this.#feedResponse(text, rest)
  }

  /** Whether a peer agent says that the instance got nothing, and the request went elsewhere. */
  #wentElsewhere(head: ResponseHead, upstream: Upstream): boolean {
    const word = head.meshReason
    if (word === '' || !Object.hasOwn(answers, word)) return false
    const reason = word as Reason
    const unsent = head.status === statusOf(reason) && neverReached.has(reason)
    const next = unsent ? this.#elsewhere(upstream, reason) : null
    if (next === null) {
      this.#peerReason = reason
      return false
    }
    this.#dropChannel(ownFault.has(reason) ? 'abandoned' : 'connect-failed')
    this.#attempt(next)
    return true
  }

  #feedResponse(before: string, piece: Buffer): void {
    const fed = this.#responseBody.feed(piece)
    if (typeof fed !== 'number') this.#fail('bad-response', fed.problem)
    else this.#endResponse(before, this.#responseBody.content, piece.length - fed)
  }

  /** Passes on what a piece became; completes the exchange when the body is over with it. */
  #endResponse(before: string, content: Buffer | null, bytesTooMany: number): void {
    const { open, trailers } = this.#responseBody
    const isLast = !open && this.#chunkedToCaller
    const after = isLast ? writeLastChunk(trailers, this.#response?.nominated ?? null) : ''
    this.#relay.expectWithin(this.#relay.settings.responseIdleMs)
    this.#said = true
    this.#toCaller(before, content, after)
    if (!open) this.#complete(bytesTooMany > 0)
  }

  #toCaller(before: string, content: Buffer | null, after: string): void {
    this.#bytesOut += before.length + (content?.length ?? 0) + after.length
    const { caller } = this.#relay.parts
    if (writePiece(caller, before, content, this.#chunkedToCaller, after)) return
    this.#relay.callerFilled()
    this.#channel?.pause()
  }

  get #responseOrigin(): 'service-response' | 'peer-response' {
    return this.#upstream?.mtls === true ? 'peer-response' : 'service-response'
  }

  // ---- ends

  /** The response is whole. */
  #complete(spoilt: boolean): void {
    const head = this.#response as ResponseHead
    const request = this.#head as RequestHead
    const channel = this.#channel as Channel
    const upstream = this.#upstream as Upstream
    const isClean =
      !spoilt &&
      !this.#early &&
      !head.connectionAuth &&
      !request.connectionAuth &&
      request.upgrade === ''
    this.#channel = null
    if (!isClean) discard(channel)
    else if (head.keepAlive) giveBack(channel, upstream)
    else new Parting({ channel, watch: this.#relay.parts.watch }).start()
    this.#finishAttempt(this.#verdict(head.status))
    this.#record(this.#peerReason, head.status)
    if (this.#keepCaller) this.#relay.next()
    else this.#relay.close()
  }

  #verdict(status: number): AttemptResult {
    if (status < 500) return 'ok'
    return ownFault.has(this.#peerReason) ? 'abandoned' : 'server-error'
  }

  /** Something went wrong: told to the caller if nothing was said yet, else by a reset. */
  #fail(reason: Reason, detail: string): void {
    const isServices = reason === 'bad-response' || reason === 'response-timeout'
    this.#dropChannel(isServices ? 'reset' : 'abandoned')
    if (!this.#said) {
      this.#reply(reason, detail)
      return
    }
    this.#record(reason, this.#status)
    this.#relay.parts.caller.abort()
  }

  /** Answers in the mesh's own name. */
  #reply(reason: Reason, detail: string): void {
    const head = this.#head
    const keep =
      head !== null &&
      head.keepAlive &&
      head.http11 &&
      !this.#requestBody.open &&
      head.upgrade === '' &&
      !this.#relay.lastRequest
    this.#chunkedToCaller = false
    this.#toCaller(
      writeReply({
        reason,
        detail,
        requestId: this.#requestId,
        close: !keep,
        method: head?.method ?? '',
        accept: head === null ? '' : valueOf(head.fields, 'accept'),
      }),
      null,
      '',
    )
    this.#record(reason, statusOf(reason))
    if (keep) this.#relay.next()
    else this.#relay.close()
  }

  #finishAttempt(result: AttemptResult): void {
    const upstream = this.#upstream
    if (upstream === null) return
    this.#upstream = null
    this.#lastUpstream = upstream
    upstream.finished(result)
  }

  #dropChannel(result: AttemptResult): void {
    const channel = this.#channel
    this.#channel = null
    this.#opening?.cancel()
    this.#opening = null
    if (channel !== null) discard(channel)
    this.#finishAttempt(result)
  }

  #record(reason: Reason, status: number): void {
    this.#active = false
    this.#letGo()
    const { steps, outcomes, clock, watch } = this.#relay.parts
    const decision = this.#decision
    const upstream = this.#lastUpstream
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
      rule: this.#revokedBy ?? ruleOf(decision),
      bytesFromCaller: this.#bytesIn,
      bytesToCaller: this.#bytesOut,
      startedAt: watch.wallTimeAt(this.#startedElapsed),
      durationMs: clock.elapsed() - this.#startedElapsed,
      attempts: this.#attempts,
      mtls: steps.direction === 'inbound' ? steps.mtls : (upstream?.mtls ?? false),
      requestId: this.#requestId,
    })
  }

  #reset(head: RequestHead | null, headBytes: number): void {
    const { clock } = this.#relay.parts
    this.#active = true
    this.#head = head
    this.#requestId = this.#own.idOf(head)
    this.#startedElapsed = clock.elapsed()
    this.#decision = null
    this.#revokedBy = null
    this.#headText = ''
    this.#repeatable = true
    this.#lastChunk = ''
    this.#attempts = 0
    this.#lastUpstream = null
    this.#response = null
    this.#said = false
    this.#status = 0
    this.#chunkedToCaller = false
    this.#peerReason = 'ok'
    this.#bytesIn = headBytes
    this.#bytesOut = 0
  }
}

/** The rule that refused, or that would have. */
function ruleOf(decision: Decision | null): RuleRef | null {
  if (decision === null) return null
  return decision.kind === 'refuse' ? decision.rule : (decision.permit.audit?.ref ?? null)
}

/** Whether every protocol of an answer was among those asked for. */
function wasOffered(asked: string, answered: string): boolean {
  const offers = asked.toLowerCase().split(', ')
  return (
    answered !== '' &&
    answered
      .toLowerCase()
      .split(', ')
      .every((protocol) => offers.includes(protocol))
  )
}
