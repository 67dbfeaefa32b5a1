/**
 * Owns the way of one request at a time to an upstream: its channel, kept or newly opened, what goes
 * out on it under backpressure, and what is held of that to be sent again to another instance where
 * that is safe. Every attempt begins and ends here. What an answer says is its owner's business, and
 * so is every word to the caller.
 */

import { BodyReader } from '#agent/http1/body.ts'
import type { RequestHead, ResponseHead } from '#agent/http1/head.ts'
import { writeLastChunk } from '#agent/http1/serialise.ts'
import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'
import type { Reason } from '#shared/model/reason.ts'
import { resultOfAnswer, resultOfStop, resultOfUnsent } from './attempt-results.ts'
import { giveBack } from './giving-back.ts'
import type { HttpRelay } from './http-relay.ts'
import { Opening, type Waiting } from './opening.ts'
import { OutgoingHead } from './outgoing-head.ts'
import { Parting } from './parting.ts'
import { discard } from './silence.ts'
import type { AttemptResult, Upstream } from './upstream.ts'
import { writePiece } from './write-piece.ts'

/** Methods whose repetition does no more than one execution (RFC 9110 §9.2.2). */
export const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])
/** A body that came in more pieces is not held: each costs more than its bytes. */
const mostHeldPieces = 256

/** For whom a request goes out. */
export interface RequestOwner {
  /** Bytes of the answer. */
  fromService(chunk: Buffer): void
  /** The service has ended its side: whether its answer is whole with that. */
  serviceEnded(): boolean
  /** The caller has ended its side; it may still read. */
  callerEnded(): void
  /** The request cannot go on, here or elsewhere. */
  fail(reason: Reason, detail: string): void
}

/** See the header. */
export class OutgoingRequest implements ChannelSink, Waiting {
  readonly #relay: HttpRelay
  readonly #owner: RequestOwner
  readonly #isOutbound: boolean
  readonly #outgoingHead: OutgoingHead
  readonly #body: BodyReader
  #head: RequestHead | null = null
  #requestId = ''
  /** What was sent of the body, as long as it may have to be sent again. */
  #held: Buffer[] = []
  #heldBytes = 0
  #bodyBytes = 0
  /** Whether everything sent so far could be sent again. */
  #repeatable = true
  #lastChunk = ''
  /** Whether the caller waits to be asked for the body (RFC 9110 §10.1.1). */
  #unasked = false
  // the attempt
  #attempts = 0
  #upstream: Upstream | null = null
  #lastUpstream: Upstream | null = null
  #opening: Opening | null = null
  #channel: Channel | null = null
  /** The channel takes no more for now. */
  #channelFull = false
  /** Whether the answer began before all of the request was out. */
  #early = false
  /** Whether anything has come back. */
  #answered = false
  /** Whether an instance was lost with it, and may have done what it asks. */
  #wasLost = false

  constructor(parts: { readonly relay: HttpRelay; readonly owner: RequestOwner }) {
    const { relay, owner } = parts
    this.#relay = relay
    this.#owner = owner
    this.#isOutbound = relay.parts.steps.direction === 'outbound'
    this.#outgoingHead = new OutgoingHead(relay.parts)
    this.#body = new BodyReader(relay.settings.head)
  }

  /** A request begins and goes nowhere yet; without a head it is none, and never will. */
  begin(head: RequestHead | null, requestId: string): void {
    this.#head = head
    this.#requestId = requestId
    this.#bodyBytes = 0
    // The peer agent repeats what never came here.
    this.#repeatable = this.#isOutbound || idempotent.has(head?.method ?? '')
    this.#wasLost = false
    this.#lastChunk = ''
    this.#attempts = 0
    this.#lastUpstream = null
    if (head === null) return
    this.#body.begin(head.body)
    this.#unasked = head.expectsContinue
  }

  /** An attempt begins; where it fails, the request may go to others. */
  sendTo(upstream: Upstream): void {
    this.#attempts++
    this.#upstream = upstream
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

  // ---- what is known of it

  /** Whether the body goes on. */
  get bodyOpen(): boolean {
    return this.#body.open
  }

  /** Whether bytes from the caller are for `fromCaller` now. */
  get takesBody(): boolean {
    return this.#channel !== null && this.#body.open
  }

  /** Whether it is the caller's turn, and nobody else's. */
  get waitsForCaller(): boolean {
    return this.takesBody && !this.#channelFull && !this.#unasked
  }

  /** Whether it is with a peer agent. */
  get isWithPeer(): boolean {
    return this.#upstream?.mtls === true
  }

  /** Bytes of the body's content so far. */
  get bodyBytes(): number {
    return this.#bodyBytes
  }

  /** Attempts so far. */
  get attempts(): number {
    return this.#attempts
  }

  /** The upstream of the last attempt that is over, for the record. */
  get lastUpstream(): Upstream | null {
    return this.#lastUpstream
  }

  // ---- what its owner tells it

  /** Bytes of the body, and perhaps beyond it. */
  fromCaller(piece: Buffer): void {
    this.#feed('', piece)
  }

  /** The caller has been asked for the body. */
  bodyAskedFor(): void {
    if (!this.#unasked) return
    this.#unasked = false
    this.#expectNext()
  }

  /** The caller takes no more of the answer for now. */
  pauseAnswer(): void {
    this.#channel?.pause()
  }

  /** The caller takes more of the answer. */
  resumeAnswer(): void {
    this.#channel?.resume()
  }

  /** A peer agent says that the instance got nothing, or was lost: whether the request went elsewhere. */
  wentElsewhere(reason: Reason): boolean {
    const next = this.#elsewhere(this.#upstream as Upstream, reason)
    if (next === null) return false
    this.#endAttempt(resultOfUnsent(reason))
    this.sendTo(next)
    return true
  }

  /** The final answer begins: nothing is sent again. */
  answerBegins(): void {
    this.#repeatable = false
    this.#letGo()
    // A service that answers before it has the whole body may have read none, and takes the rest for
    // a request of its own: the answer to that would be another caller's.
    const waiting = (this.#channel as Channel).waitingBytes
    this.#early = this.#body.open || this.#channelFull || waiting > 0
  }

  /** Hands over the channel: it is somebody else's from here on. The attempt goes on. */
  takeChannel(): Channel {
    const channel = this.#channel as Channel
    this.#channel = null
    return channel
  }

  /**
   * The answer is whole: the channel is kept where nothing forbids it.
   * @param spoilt whether more came than belongs to the answer
   * @param peerReason why a peer agent answered in its own name; ok for the service's answer
   */
  complete(answer: ResponseHead, spoilt: boolean, peerReason: Reason): void {
    const request = this.#head as RequestHead
    const channel = this.takeChannel()
    const isClean =
      !spoilt &&
      !this.#early &&
      !answer.connectionAuth &&
      !request.connectionAuth &&
      request.upgrade === ''
    if (!isClean) discard(channel)
    else if (answer.keepAlive) giveBack(channel, this.#upstream as Upstream)
    else new Parting({ channel, watch: this.#relay.parts.watch }).start()
    this.#endAttempt(resultOfAnswer(answer.status, peerReason))
  }

  /** It is over, for this reason: so is the attempt, if there is one, with its channel. */
  stop(reason: Reason): void {
    this.#letGo()
    this.#endAttempt(resultOfStop(reason))
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
    this.#endAttempt(resultOfUnsent(reason))
    const next = this.#elsewhere(failed, reason)
    if (next !== null) this.sendTo(next)
    // A peer agent would take it that the service never got the request.
    else this.#owner.fail(this.#wasLost && !this.#isOutbound ? 'instance-aborted' : reason, detail)
  }

  /** Where the request may go after a failure; null where it must not be sent again. */
  #elsewhere(failed: Upstream, reason: Reason): Upstream | null {
    return this.#repeatable && this.#attempts < this.#relay.settings.maxAttempts
      ? this.#relay.parts.steps.again(failed, reason)
      : null
  }

  #endAttempt(result: AttemptResult): void {
    const channel = this.#channel
    const upstream = this.#upstream
    this.#channel = null
    this.#opening?.cancel()
    this.#opening = null
    if (channel !== null) discard(channel)
    if (upstream === null) return
    this.#upstream = null
    this.#lastUpstream = upstream
    upstream.finished(result)
  }

  // ---- what goes out

  #send(channel: Channel): void {
    this.#channel = channel
    this.#channelFull = false
    channel.sink = this
    const { outside } = this.#upstream as Upstream
    let text = this.#outgoingHead.textOf(this.#head as RequestHead, this.#requestId, outside)
    for (const piece of this.#held) {
      this.#write(text, piece, '')
      text = ''
    }
    if (!this.#body.open) {
      this.#write(text, null, this.#lastChunk)
      return
    }
    const input = this.#relay.takeInput()
    if (input !== null) this.#feed(text, input)
    else {
      this.#write(text, null, '')
      this.#expectNext()
    }
    // What the caller sent may have ended it.
    if (this.#channel !== channel) return
    if (this.#relay.callerHasEnded) this.#owner.callerEnded()
    else if (!this.#channelFull) this.#relay.readOn()
  }

  /** Takes a piece from the caller; `before` goes out with it. */
  #feed(before: string, piece: Buffer): void {
    const body = this.#body
    this.#unasked = false
    const fed = body.feed(piece)
    if (typeof fed !== 'number') {
      this.#owner.fail('bad-request', fed.problem)
      return
    }
    const { content, open } = body
    if (content !== null) this.#hold(content)
    const head = this.#head as RequestHead
    if (!open && head.body.kind === 'chunked') {
      this.#lastChunk = writeLastChunk(body.trailers, head.nominated)
    }
    this.#write(before, content, this.#lastChunk)
    this.#expectNext()
    if (fed < piece.length) this.#relay.holdBack(piece.subarray(fed))
  }

  #hold(content: Buffer): void {
    this.#bodyBytes += content.length
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

  #write(before: string, content: Buffer | null, after: string): void {
    const chunked = this.#head?.body.kind === 'chunked'
    if (writePiece(this.#channel as Channel, before, content, chunked, after)) return
    this.#channelFull = true
    this.#relay.parts.caller.pause()
  }

  /** Whose turn it is has its time from now on. */
  #expectNext(): void {
    const { bodyIdleMs, responseIdleMs } = this.#relay.settings
    this.#relay.expectWithin(this.waitsForCaller ? bodyIdleMs : responseIdleMs)
  }

  // ---- for the channel

  onData(chunk: Buffer): void {
    this.#answered = true
    this.#owner.fromService(chunk)
  }

  onEnd(): void {
    if (!this.#owner.serviceEnded()) this.#lost()
  }

  onDrain(): void {
    this.#channelFull = false
    this.#expectNext()
    this.#relay.readOn()
  }

  onClose(error: ChannelError | null): void {
    if (error === null) this.onEnd()
    else this.#lost(true)
  }

  /**
   * The channel ended before the answer was whole. Of what a service has read the kernel says an end
   * when it dies; a reset is for what it has not, in the queue of its listener for one, so that a
   * request was not carried out there a second time.
   */
  #lost(isReset = false): void {
    const failed = this.#upstream as Upstream
    const isTwice = this.#wasLost && !isReset
    const aborted = isTwice ? 'instance-aborted-twice' : 'instance-aborted'
    const reason: Reason = failed.mtls ? 'tunnel-lost' : aborted
    const safe = !this.#answered && idempotent.has(this.#head?.method ?? '')
    this.#wasLost = !failed.mtls
    this.#endAttempt('reset')
    const next = safe ? this.#elsewhere(failed, reason) : null
    if (next !== null) this.sendTo(next)
    else this.#owner.fail(reason, 'the connection ended before the service had answered')
  }
}
