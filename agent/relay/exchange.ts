/**
 * Owns one request at a time of a caller connection: asks the journey where it goes, has it sent
 * there, passes the answer back under backpressure, answers in the mesh's own name where there is
 * none, and writes the one record. How the request reaches an upstream is no business of its own. One
 * object serves a connection's whole life.
 * Longer than most: every way an exchange can end stands here, so that none can end it twice.
 */

import { BodyReader } from '#agent/http1/body.ts'
import { valueOf, type FieldReading } from '#agent/http1/field-lines.ts'
import { tooLarge, withRoom, type HeadFault, type HeadLimits } from '#agent/http1/head-fault.ts'
import { HeadInput } from '#agent/http1/head-input.ts'
import { readResponseHead, type RequestHead, type ResponseHead } from '#agent/http1/head.ts'
import { isChunkedFor, writeLastChunk, writeResponseHead } from '#agent/http1/serialise.ts'
import type { RuleRef } from '#shared/model/policy.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { Refusal } from '#shared/policy/refusal.ts'
import type { HttpRelay } from './http-relay.ts'
import { idempotent, OutgoingRequest, type RequestOwner } from './outgoing-request.ts'
import { authorityOutside } from './outside-name.ts'
import { answers, neverReached, statusOf, writeReply } from './replies.ts'
import { requestIdOf } from './request-id.ts'
import { Splice, type SpliceEnd, type SpliceOwner } from './splice.ts'
import { reasonOf } from './tcp-relay.ts'
import type { Decision } from './upstream.ts'
import { writePiece } from './write-piece.ts'

/** Of a head's last line; heads are measured without it. */
const lineEnd = 2

/** See the header. */
export class Exchange implements RequestOwner, SpliceOwner {
  readonly #relay: HttpRelay
  readonly #outgoing: OutgoingRequest
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
  /** Of the request's head, and of what followed a 101; its body's are counted where it goes out. */
  #bytesIn = 0
  #bytesOut = 0

  constructor(relay: HttpRelay) {
    const { head } = relay.settings
    this.#relay = relay
    this.#outgoing = new OutgoingRequest({ relay, owner: this })
    this.#responseBody = new BodyReader(head)
    this.#peerLimits = withRoom(head)
    this.#responseInput = new HeadInput(this.#peerLimits)
  }

  // ---- from the caller's side

  /** A request begins. */
  begin(head: RequestHead, headBytes: number): void {
    const { steps } = this.#relay.parts
    this.#reset(head, headBytes)
    this.#expectAnswer()
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
    this.#outgoing.sendTo(decision.upstream)
  }

  /** Bytes that are no request are answered and recorded all the same. */
  refuse(reason: Reason, detail: string): void {
    this.#reset(null, 0)
    this.#reply(reason, detail)
  }

  /** Whether bytes from the caller are for `fromCaller` now. */
  get takesBody(): boolean {
    return this.#outgoing.takesBody
  }

  /** Bytes of the request's body, and perhaps beyond it. */
  fromCaller(piece: Buffer): void {
    this.#outgoing.fromCaller(piece)
  }

  /** The caller has ended its side; it may still read. */
  callerEnded(): void {
    if (this.takesBody) this.callerGone()
    else if (this.#active && !this.#said) this.#expectAnswer()
  }

  callerDrained(): void {
    this.#outgoing.resumeAnswer()
  }

  /** The caller is gone: nobody waits for an answer. */
  callerGone(): void {
    if (!this.#active) return
    this.#outgoing.stop('caller-aborted')
    this.#record('caller-aborted', this.#said ? this.#status : statusOf('caller-aborted'))
    this.#relay.parts.caller.abort()
  }

  /** Policy no longer allows the request under way. */
  revoke({ ref, reason, detail }: Refusal): void {
    if (!this.#active) return
    this.#revokedBy = ref
    this.fail(reason, detail)
  }

  /** The host has no room for what its caller sends. */
  overloaded(detail: string): void {
    if (this.#active) this.fail('overloaded', detail)
  }

  /** Nothing has moved for too long: whose turn was it? */
  timedOut(): void {
    if (!this.#active) return
    if (this.#outgoing.waitsForCaller) {
      this.fail('body-timeout', 'the body of the request stalled')
    } else if (this.#relay.callerIsFull || this.#isLeft) this.callerGone()
    else this.fail('response-timeout', 'the service did not answer in time')
  }

  /** The service has its time, but less of it where nobody may be left to read the answer. */
  #expectAnswer(): void {
    const { responseIdleMs, endedMs } = this.#relay.settings
    this.#relay.expectWithin(this.#isLeft ? endedMs : responseIdleMs)
  }

  /** Whether the caller has most likely given up. */
  get #isLeft(): boolean {
    const { responseIdleMs, endedMs } = this.#relay.settings
    return this.#relay.callerHasEnded && !this.#said && endedMs < responseIdleMs
  }

  // ---- from the upstream's side

  /** For the outgoing request: bytes of the answer. */
  fromService(chunk: Buffer): void {
    if (this.#response === null) {
      this.#responseInput.push(chunk)
      this.#takeResponseHeads()
    } else this.#feedResponse('', chunk)
  }

  /** For the outgoing request: whether the answer is whole now that the service has ended its side. */
  serviceEnded(): boolean {
    if (this.#response === null || !this.#responseBody.endOfInput()) return false
    this.#endResponse('', null, 0)
    return true
  }

  /** Any number of interim ones may come before the one that says what becomes of the request. */
  #takeResponseHeads(): void {
    for (;;) {
      const text = this.#responseInput.takeHead()
      if (text === null) return
      const head = typeof text === 'string' ? this.#readResponse(text) : text
      if (head.kind === 'fault') {
        this.fail('bad-response', head.problem)
        return
      }
      this.#reading = head.reading
      if (head.status === 101) {
        this.#switchProtocols(head)
        return
      }
      if (head.status >= 200) {
        this.#respond(head)
        return
      }
      this.#inform(head)
    }
  }

  #readResponse(text: string): ResponseHead | HeadFault {
    const { method } = this.#head as RequestHead
    const limits = this.#outgoing.isWithPeer ? this.#peerLimits : this.#relay.settings.head
    return text.length - lineEnd > limits.maxBytes
      ? tooLarge(limits.maxBytes)
      : readResponseHead(text, method, limits, this.#reading)
  }

  /** 100, 103 and the like go on to callers that know them. */
  #inform(head: ResponseHead): void {
    const request = this.#head as RequestHead
    if (!request.http11) return
    this.#toCaller(writeResponseHead(head, this.#responseOrigin, 'none', request), null, '')
    if (head.status === 100) this.#outgoing.bodyAskedFor()
  }

  #switchProtocols(head: ResponseHead): void {
    const request = this.#head as RequestHead
    if (!wasOffered(request.upgrade, head.upgrade)) {
      this.fail('bad-response', 'the service switched to a protocol that nobody asked for')
      return
    }
    const { caller, watch } = this.#relay.parts
    this.#status = 101
    this.#toCaller(writeResponseHead(head, this.#responseOrigin, 'upgrade', request), null, '')
    const service = this.#outgoing.takeChannel()
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
    const reason = reasonOf(end, this.#outgoing.isWithPeer)
    this.#bytesIn += bytesFromCaller
    this.#bytesOut += bytesToCaller
    this.#outgoing.stop(reason)
    this.#record(reason, this.#status)
  }

  #respond(head: ResponseHead): void {
    const request = this.#head as RequestHead
    // Taken first: of an answer that is passed over nothing may be left before the next one.
    const rest = this.#responseInput.takeAll()
    if (this.#outgoing.isWithPeer && this.#wentElsewhere(head)) return
    this.#outgoing.answerBegins()
    const { steps } = this.#relay.parts
    const isFramed = head.body.kind === 'length' || head.body.kind === 'none'
    this.#response = head
    this.#status = head.status
    this.#chunkedToCaller = isChunkedFor(head.body, request.http11)
    this.#keepCaller =
      request.keepAlive &&
      !this.#outgoing.bodyOpen &&
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
    this.#responseBody.begin(head.body)
    if (rest === null) this.#endResponse(text, null, 0)
    else this.#feedResponse(text, rest)
  }

  /** Whether a peer agent says that the instance got nothing, or was lost, and the request went elsewhere. */
  #wentElsewhere(head: ResponseHead): boolean {
    const word = head.meshReason
    if (word === '' || !Object.hasOwn(answers, word)) return false
    const reason = word as Reason
    const isLost = reason === 'instance-aborted' && idempotent.has(this.#head?.method ?? '')
    const mayGo = head.status === statusOf(reason) && (isLost || neverReached.has(reason))
    if (mayGo && this.#outgoing.wentElsewhere(reason)) return true
    this.#peerReason = reason
    return false
  }

  #feedResponse(before: string, piece: Buffer): void {
    const fed = this.#responseBody.feed(piece)
    if (typeof fed !== 'number') this.fail('bad-response', fed.problem)
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
    this.#outgoing.pauseAnswer()
  }

  get #responseOrigin(): 'service-response' | 'peer-response' {
    return this.#outgoing.isWithPeer ? 'peer-response' : 'service-response'
  }

  // ---- ends

  /** The response is whole. */
  #complete(spoilt: boolean): void {
    const head = this.#response as ResponseHead
    this.#outgoing.complete(head, spoilt, this.#peerReason)
    this.#record(this.#peerReason, head.status)
    if (this.#keepCaller) this.#relay.next()
    else this.#relay.close()
  }

  /** Something went wrong: told to the caller if nothing was said yet, else by a reset. */
  fail(reason: Reason, detail: string): void {
    this.#outgoing.stop(reason)
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
      !this.#outgoing.bodyOpen &&
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

  #record(reason: Reason, status: number): void {
    this.#active = false
    const { steps, outcomes, clock, watch } = this.#relay.parts
    const decision = this.#decision
    const { attempts, bodyBytes, lastUpstream: upstream } = this.#outgoing
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
      bytesFromCaller: this.#bytesIn + bodyBytes,
      bytesToCaller: this.#bytesOut,
      startedAt: watch.wallTimeAt(this.#startedElapsed),
      durationMs: clock.elapsed() - this.#startedElapsed,
      attempts,
      mtls: steps.direction === 'inbound' ? steps.mtls : (upstream?.mtls ?? false),
      requestId: this.#requestId,
    })
  }

  #reset(head: RequestHead | null, headBytes: number): void {
    const { parts } = this.#relay
    this.#active = true
    this.#head = head
    this.#requestId = requestIdOf(head, parts)
    this.#startedElapsed = parts.clock.elapsed()
    this.#decision = null
    this.#revokedBy = null
    this.#outgoing.begin(head, this.#requestId)
    this.#responseInput.clear()
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
