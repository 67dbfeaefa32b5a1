/**
 * Owns a CONNECT stream from the wish for it to the far agent's answer: the opener hears exactly
 * once how it went, never before `openStream` returned, and nothing was sent before it has.
 */

import type { Reason } from '#shared/model/reason.ts'
import type { ResponseHead } from '#agent/http2/header-rules.ts'
import type { HeadSink, Http2Stream } from '#agent/http2/stream.ts'
import type { ChannelError, ChannelSink, Opener } from '#agent/platform.ts'
import { readRefusal } from './refusal.ts'

/** The tunnel a wish was sent through. */
export interface PendingHost {
  /** It waits no more. */
  answered(pending: PendingStream): void
  /** The peer never looked at it, so that it may be sent again. */
  again(pending: PendingStream): void
}

/** The code of a stream its peer never looked at. */
const unprocessed = 'H2_REFUSED_STREAM'
const maxTries = 3

/** See the header. */
export class PendingStream implements HeadSink, ChannelSink {
  readonly authority: string
  /** Rounds of the tunnel's sweep it has waited for an answer. */
  rounds = 0
  readonly #opener: Opener
  #host: PendingHost | null = null
  #stream: Http2Stream | null = null
  #tries = 0
  #over = false

  constructor(parts: { readonly opener: Opener }, settings: { readonly authority: string }) {
    this.#opener = parts.opener
    this.authority = settings.authority
  }

  /** It was sent as `stream` through `host`. */
  sent(stream: Http2Stream, host: PendingHost): void {
    this.#stream = stream
    this.#host = host
    this.#tries++
    this.rounds = 0
  }

  /** There will be no stream. */
  refuse(reason: Reason, detail: string): void {
    if (this.#over) return
    this.#over = true
    this.#host?.answered(this)
    this.#stream?.abort()
    this.#opener.onOpenFailed(reason, detail)
  }

  onResponse(stream: Http2Stream, head: ResponseHead): void {
    if (this.#over) return
    if (head.status > 299) {
      const { reason, detail } = readRefusal(head)
      this.refuse(reason, detail)
      return
    }
    this.#over = true
    this.#host?.answered(this)
    this.#opener.onOpen(stream)
  }

  onTrailers(): void {}

  onData(): void {}

  onEnd(): void {}

  onDrain(): void {}

  onClose(error: ChannelError | null): void {
    if (this.#over) return
    const host = this.#host
    this.#stream = null
    if (host !== null && error?.code === unprocessed && this.#tries < maxTries) {
      host.answered(this)
      host.again(this)
    } else {
      this.refuse(
        'tunnel-failed',
        `the tunnel ended before an answer: ${error?.message ?? 'closed'}`,
      )
    }
  }
}
