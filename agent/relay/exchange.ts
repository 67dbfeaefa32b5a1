/**
 * Owns one request at a time of a caller connection: has it attempted at the upstream the journey
 * chose, again at another where that is safe, and gives the response back, both under backpressure.
 * One object serves a connection's whole life. It reads no bytes: heads and bodies come to it parsed.
 * It is longer than others because every way in which one request can end is told here, once.
 */

import type { BodyForm, BodySink } from '#agent/http1/body-reader.ts'
import type { ParsedRequest } from '#agent/http1/parsed-request.ts'
import type { ParsedResponse } from '#agent/http1/parsed-response.ts'
import { writeRequestHead, writeResponseHead } from '#agent/http1/serialise.ts'
import type { Channel, ChannelError } from '#agent/platform.ts'
import type { Reason } from '#shared/model/reason.ts'
import { Attempt, type AttemptOwner, type ChannelFate } from './attempt.ts'
import { HeldRequest } from './held-request.ts'
import type { HttpRelayParts, HttpRelaySettings } from './http-relay.ts'
import type { JoinedWriter } from './joined-writer.ts'
import { connectionFields, requestFields, requestIdOf } from './own-fields.ts'
import { answers, neverReached, statusOf, writeReply } from './replies.ts'
import { RequestRecord } from './request-record.ts'
import { Splice, type SpliceEnd, type SpliceOwner } from './splice.ts'
import { reasonOf } from './tcp-relay.ts'
import type { AttemptResult, Decision, Upstream } from './upstream.ts'

/** The caller's connection, as its exchange sees it. */
export interface ExchangeOwner {
  /** The response is written here. */
  readonly out: JoinedWriter
  /** Whether the connection ends with the request under way. */
  readonly isLast: boolean
  /** Whether the caller has sent bytes beyond the request. */
  readonly hasMore: boolean
  /** Something is due within `ms`. */
  expectWithin(ms: number): void
  /** The caller shall send no more of the body for now, or go on. */
  holdBody(): void
  goOnWithBody(): void
  /** The request is over and the connection stays. */
  next(): void
  /** The request is over and the connection ends in order. */
  close(): void
  /** The connection breaks off. */
  abort(): void
  /** Gives the connection away for a switch of protocols, with bytes that wait. */
  surrender(): Buffer | null
  /** A switched connection has ended. */
  switchedEnds(): void
}

/** Methods whose repetition does no more than one execution (RFC 9110 §9.2.2). */
const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])
/** Reasons that are the caller's or this side's, not the instance's. */
const ownFault: ReadonlySet<Reason> = new Set(['policy-denied', 'no-credential', 'overloaded'])

/** See the header. */
export class Exchange implements AttemptOwner, BodySink, SpliceOwner {
  readonly #owner: ExchangeOwner
  readonly #parts: HttpRelayParts
  readonly #settings: HttpRelaySettings
  readonly #record: RequestRecord
  readonly #held: HeldRequest
  readonly #fixedFields: string
  #attempt: Attempt | null = null
  #head: ParsedRequest | null = null
  /** Whether the last byte of the request has been read. */
  #isSent = false
  #hasResponse = false
  #keepsCaller = true
  /** Whether a body without a length goes on in chunks of our own. */
  #isChunking = false
  /** What the response means for the record: `ok`, or why the peer agent answered itself. */
  #reason: Reason = 'ok'

  constructor(
    parts: { readonly owner: ExchangeOwner; readonly relay: HttpRelayParts },
    settings: HttpRelaySettings,
  ) {
    this.#owner = parts.owner
    this.#parts = parts.relay
    this.#settings = settings
    this.#record = new RequestRecord(parts.relay)
    this.#held = new HeldRequest({ mostBytes: settings.maxHeldBytes })
    this.#fixedFields = connectionFields(parts.relay.steps)
  }

  // ---- from the caller

  /** A request begins. */
  begin(head: ParsedRequest, headBytes: number): void {
    const { steps, random } = this.#parts
    const record = this.#record
    record.begin(headBytes)
    record.requestId = requestIdOf(head, steps, random)
    this.#head = head
    this.#isSent = head.framing === 'none'
    this.#hasResponse = false
    this.#reason = 'ok'
    if (head.upgrade !== '' && head.framing !== 'none') {
      this.#reply('upgrade-refused', 'a request that asks for an upgrade must not carry a body')
      return
    }
    const decision = steps.decide(head)
    record.decision = decision
    switch (decision.kind) {
      case 'refuse':
        this.#reply(decision.reason, decision.detail)
        break
      case 'forward':
        this.#forward(head, decision)
        break
    }
  }

  /** Bytes that are no request are answered and recorded all the same. */
  refuse(reason: Reason, detail: string, bytes: number): void {
    this.#record.begin(bytes)
    this.#record.requestId = requestIdOf(null, this.#parts.steps, this.#parts.random)
    this.#head = null
    this.#isSent = false
    this.#hasResponse = false
    this.#reply(reason, detail)
  }

  onBody(piece: Buffer): void {
    this.#record.bytesFromCaller += piece.length
    this.#held.add(piece)
    if (this.#attempt?.isOpen === true) this.#attempt.out.piece(piece)
  }

  onBodyText(text: string): void {
    this.#record.bytesFromCaller += text.length
    this.#held.add(text)
    if (this.#attempt?.isOpen === true) this.#attempt.out.text(text)
  }

  /** What came in one piece has been read; `isWhole` when it was the last of the request. */
  bodyPauses(isWhole: boolean): void {
    if (!this.#record.isOpen) return
    const attempt = this.#attempt as Attempt
    this.#isSent = isWhole
    if (attempt.isOpen) {
      attempt.out.flush()
      this.#held.dropExcess()
      if (attempt.out.isFull && !isWhole) this.#owner.holdBody()
    } else if (this.#held.isFull && !isWhole) this.#owner.holdBody()
    const { bodyIdleMs, responseIdleMs } = this.#settings
    const isCallersTurn = !isWhole && !this.#attemptIsSlow
    this.#owner.expectWithin(isCallersTurn ? bodyIdleMs : responseIdleMs)
  }

  bodyIsBad(problem: string): void {
    this.#fail('bad-request', problem, 'abandoned')
  }

  /** Whether the caller still owes a part of the request. */
  get wantsBody(): boolean {
    return !this.#isSent
  }

  /** The caller takes more. */
  callerDrained(): void {
    this.#attempt?.resume()
  }

  /** The caller is gone: nobody waits for an answer. */
  callerGone(): void {
    if (!this.#record.isOpen) return
    this.#abortAttempt('abandoned')
    const { status } = this.#record
    this.#end('caller-aborted', this.#hasResponse ? status : statusOf('caller-aborted'))
  }

  timedOut(): void {
    if (this.#hasResponse && this.#owner.out.isFull) {
      this.callerGone()
      this.#owner.abort()
    } else if (!this.#isSent && !this.#hasResponse && !this.#attemptIsSlow) {
      this.#fail('body-timeout', 'the body of the request stalled', 'abandoned')
    } else this.#fail('response-timeout', 'the service did not answer in time', 'reset')
  }

  /** Whether it is the upstream that does not take the body. */
  get #attemptIsSlow(): boolean {
    const attempt = this.#attempt
    return attempt !== null && (attempt.isOpening || attempt.out.isFull)
  }

  #forward(head: ParsedRequest, decision: Extract<Decision, { kind: 'forward' }>): void {
    const { steps } = this.#parts
    const own = requestFields(head, steps, this.#fixedFields, this.#record.requestId)
    const from = steps.direction === 'outbound' ? 'caller' : 'peer-agent'
    const host = head.hasHost ? '' : `host: ${head.authority || `${decision.service}.mesh`}\r\n`
    this.#held.begin(writeRequestHead(head, from, host + own))
    this.#owner.expectWithin(this.#settings.responseIdleMs)
    this.#try(decision.upstream)
  }

  // ---- attempts

  #try(upstream: Upstream): void {
    const record = this.#record
    record.attempted(upstream)
    const attempt = (this.#attempt ??= new Attempt(
      { owner: this, watch: this.#parts.watch },
      this.#settings.head,
    ))
    // After one stale channel others are likely to be stale too.
    attempt.start(upstream, (this.#head as ParsedRequest).method, record.attempts === 1)
  }

  /** Tries again if it may and the journey knows where. */
  #tryAgain(failed: Upstream, reason: Reason): boolean {
    if (!this.#mayTryAgain()) return false
    const next = this.#parts.steps.again(failed, reason)
    if (next === null) return false
    this.#try(next)
    return true
  }

  attemptOpened(): void {
    const attempt = this.#attempt as Attempt
    const { out } = attempt
    this.#held.writeTo(out)
    // A body that follows in this turn flushes with it.
    if (this.#isSent || !attempt.isReused) out.flush()
    this.#held.dropExcess()
    if (!out.isFull && !this.#isSent) this.#owner.goOnWithBody()
  }

  attemptFailed(reason: Reason, detail: string): void {
    const attempt = this.#attempt as Attempt
    // A refusal for the caller's sake says nothing against the instance.
    attempt.finish(ownFault.has(reason) ? 'abandoned' : 'connect-failed')
    if (!this.#tryAgain(attempt.upstream, reason)) this.#reply(reason, detail)
  }

  attemptDrained(): void {
    this.#attempt?.out.drained()
    if (this.#isSent) return
    if (!this.#hasResponse) this.#owner.expectWithin(this.#settings.bodyIdleMs)
    this.#owner.goOnWithBody()
  }

  attemptLost(error: ChannelError | null): void {
    const attempt = this.#attempt as Attempt
    const { upstream, isReused, hasAnswered } = attempt
    // A far agent resets a stream when its instance broke off; anything else is the tunnel's end.
    const byInstance = !upstream.mtls || error === null || error.code === 'H2_CANCEL'
    const reason: Reason = byInstance ? 'instance-aborted' : 'tunnel-lost'
    // That a kept-alive channel had gone stale says nothing against the instance.
    this.#abortAttempt(isReused && !hasAnswered ? 'abandoned' : 'reset')
    const { method } = this.#head as ParsedRequest
    if (!hasAnswered && idempotent.has(method) && this.#tryAgain(upstream, reason)) return
    this.#fail(reason, 'the connection ended before the service had answered', 'reset')
  }

  // ---- from the upstream

  responseBegins(response: ParsedResponse): BodyForm | null {
    const request = this.#head as ParsedRequest
    const { upstream } = this.#attempt as Attempt
    const { steps } = this.#parts
    const isPeer = steps.direction === 'outbound' && upstream.mtls
    const { meshReason } = response
    if (isPeer && isReason(meshReason)) {
      const isRefusal = neverReached.has(meshReason) && response.status === statusOf(meshReason)
      const next = isRefusal && this.#mayTryAgain() ? steps.again(upstream, meshReason) : null
      if (next !== null) {
        this.#abortAttempt(ownFault.has(meshReason) ? 'abandoned' : 'connect-failed')
        this.#try(next)
        return null
      }
      this.#reason = meshReason
    }
    this.#hasResponse = true
    this.#record.status = response.status
    const hasBody = response.framing !== 'none'
    this.#isChunking = response.framing === 'until-close' && request.http11
    this.#keepsCaller =
      request.keepAlive &&
      this.#isSent &&
      !this.#owner.isLast &&
      (request.http11 || response.framing === 'length' || !hasBody) &&
      // What came early for a protocol that was not switched to is no next request.
      !(request.upgrade !== '' && this.#owner.hasMore) &&
      // Towards a peer agent this says that the stream must not be used again.
      !(steps.direction === 'inbound' && (response.connectionAuth || request.connectionAuth))
    const isChunked = request.http11 && (response.framing === 'chunked' || this.#isChunking)
    const word = !this.#keepsCaller ? 'close' : request.http11 ? 'nothing' : 'keep-alive'
    const from = isPeer ? 'peer-agent' : 'service'
    this.#owner.out.text(writeResponseHead(response, from, word, isChunked))
    return isChunked && !this.#isChunking ? 'framed' : 'content'
  }

  responseInforms(response: ParsedResponse): void {
    const request = this.#head as ParsedRequest
    this.#owner.expectWithin(this.#settings.responseIdleMs)
    if (!request.http11) return
    this.#owner.out.text(writeResponseHead(response, 'service', 'nothing', false))
    this.#owner.out.flush()
  }

  responseBytes(piece: Buffer): void {
    const { out } = this.#owner
    if (!this.#isChunking) {
      out.piece(piece)
      return
    }
    out.text(`${piece.length.toString(16)}\r\n`)
    out.piece(piece)
    out.text('\r\n')
  }

  responseText(text: string): void {
    this.#owner.out.text(text)
  }

  responsePauses(): void {
    const { out } = this.#owner
    out.flush()
    if (!this.#record.isOpen) return
    // Half a head is no answer.
    if (this.#hasResponse) this.#owner.expectWithin(this.#settings.responseIdleMs)
    if (out.isFull) this.#attempt?.pause()
  }

  responseEnds(channel: ChannelFate): void {
    const attempt = this.#attempt as Attempt
    const { out } = this.#owner
    if (this.#isChunking) out.text('0\r\n\r\n')
    out.flush()
    const request = this.#head as ParsedRequest
    attempt.finish(this.#record.status >= 500 ? 'server-error' : 'ok')
    if (!this.#isSent || channel === 'spoilt') {
      attempt.abort()
      this.#attempt = null
    } else if (channel === 'fit' && !request.connectionAuth && request.upgrade === '')
      attempt.release()
    else {
      attempt.close()
      this.#attempt = null
    }
    this.#end(this.#reason, this.#record.status)
    if (this.#keepsCaller) this.#owner.next()
    else this.#owner.close()
  }

  responseIsBad(problem: string): void {
    this.#fail('bad-response', problem, 'reset')
  }

  responseSwitches(response: ParsedResponse, rest: Buffer | null): void {
    const request = this.#head as ParsedRequest
    const attempt = this.#attempt as Attempt
    if (!isAmong(response.upgrade, request.upgrade)) {
      this.#fail('bad-response', 'the service switched to a protocol nobody asked for', 'reset')
      return
    }
    const owner = this.#owner
    this.#hasResponse = true
    this.#record.status = response.status
    owner.out.text(writeResponseHead(response, 'service', 'upgrade', false))
    owner.out.flush()
    const service = attempt.surrender() as Channel
    const { caller, watch } = this.#parts
    new Splice({ caller, service, watch, owner: this }).start({
      fromCaller: owner.surrender(),
      fromService: rest,
    })
  }

  spliceOver(end: SpliceEnd, bytesFromCaller: number, bytesToCaller: number): void {
    const attempt = this.#attempt as Attempt
    const { steps } = this.#parts
    this.#record.bytesFromCaller += bytesFromCaller
    this.#owner.out.bytes += bytesToCaller
    this.#attempt = null
    attempt.finish(end === 'service-lost' ? 'reset' : 'ok')
    const { mtls } = attempt.upstream
    this.#end(reasonOf(end, steps.direction === 'outbound' && mtls), this.#record.status)
    this.#owner.switchedEnds()
  }

  // ---- ends

  /** Something went wrong: told to the caller if nothing was said yet, else by breaking off. */
  #fail(reason: Reason, detail: string, result: AttemptResult): void {
    if (!this.#record.isOpen) return
    this.#abortAttempt(result)
    if (!this.#hasResponse) {
      this.#reply(reason, detail)
      return
    }
    this.#end(reason, this.#record.status)
    this.#owner.abort()
  }

  /** Answers in the mesh's own name. */
  #reply(reason: Reason, detail: string): void {
    const head = this.#head
    const { out } = this.#owner
    const keeps = head !== null && head.keepAlive && this.#isSent && !this.#owner.isLast
    const { requestId } = this.#record
    const status = statusOf(reason)
    out.text(
      writeReply({
        reason,
        detail,
        requestId,
        connection: !keeps ? 'close' : head.http11 ? 'nothing' : 'keep-alive',
        method: head?.method ?? '',
        accept: head?.value('accept') ?? '',
      }),
    )
    out.flush()
    this.#end(reason, status)
    if (keeps) this.#owner.next()
    else this.#owner.close()
  }

  #mayTryAgain(): boolean {
    return this.#record.attempts < this.#settings.maxAttempts && this.#held.canRepeat
  }

  #abortAttempt(result: AttemptResult): void {
    const attempt = this.#attempt
    if (attempt === null) return
    this.#attempt = null
    attempt.abort()
    attempt.finish(result)
  }

  /** Writes the record and lets go of what the request held. */
  #end(reason: Reason, status: number): void {
    const record = this.#record
    record.status = status
    record.bytesToCaller = this.#owner.out.bytes
    this.#owner.out.bytes = 0
    record.end(this.#head, reason)
    this.#held.forget()
    this.#head?.fields.forget()
  }
}

/** Whether a service may switch to `chosen`, of the protocols that were asked for. */
function isAmong(chosen: string, asked: string): boolean {
  const wanted = chosen.toLowerCase()
  return (
    wanted !== '' &&
    asked
      .toLowerCase()
      .split(/[ \t]*,[ \t]*/)
      .includes(wanted)
  )
}

function isReason(text: string): text is Reason {
  return Object.hasOwn(answers, text)
}
