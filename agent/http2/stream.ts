/**
 * Owns one stream (RFC 9113 §5.1) as a channel: what waits for credit or for its consumer, the two
 * half-closes, the one goodbye. The frames themselves are the connection's business, which it knows
 * only as a host.
 */

import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'
import { ByteQueue } from './byte-queue.ts'
import { errorCodes } from './fault.ts'
import { flags } from './frames.ts'
import { FrameWriter } from './frame-writer.ts'
import type { HeaderField } from './header-field.ts'
import type { RequestHead, ResponseHead } from './header-rules.ts'
import { ReceiveWindow, type ReceiveWindowSettings } from './receive-window.ts'

/** Is told of the header sections that arrive on a stream after it was opened. */
export interface HeadSink {
  /** The final response; interim ones are left out. */
  onResponse(stream: Http2Stream, head: ResponseHead): void
  onTrailers(stream: Http2Stream, fields: readonly HeaderField[]): void
}

/** The connection, as its streams see it. */
export interface StreamHost {
  readonly writer: FrameWriter
  /** What the peer lets the whole connection send, bytes. */
  sendWindow: number
  /** Largest DATA payload to send. */
  readonly dataFrameBytes: number
  /** True while it takes and opens streams. */
  readonly isOpen: boolean
  /** The consumer took bytes: credit of the connection. */
  took(bytes: number): void
  /** Bytes began (positive) or ceased (negative) to wait here, for consumer or for credit. */
  holds(stream: Http2Stream, bytes: number): void
  /** The stream sends its credit. */
  sendCredit(stream: Http2Stream, bytes: number): void
  sendHeaders(stream: Http2Stream, fields: readonly HeaderField[], endStream: boolean): void
  sendReset(stream: Http2Stream, code: number): void
  /** The stream wants to go on writing when it may. */
  wait(stream: Http2Stream): void
  /** Both sides have finished on the wire. */
  finished(stream: Http2Stream): void
  /** Nothing of the stream is left. */
  gone(stream: Http2Stream): void
}

/** Most bytes one stream writes before others have their turn. */
const turnBytes = 65_536

const nothing = Buffer.alloc(0)

/** See the header. */
export class Http2Stream implements Channel {
  readonly id: number
  /** The request, on the server's side. */
  readonly request: RequestHead | null
  /** Told of responses and trailers; may be set once. */
  heads: HeadSink | null = null
  /** What the peer lets this stream send, bytes; may be negative (RFC 9113 §6.9.2). */
  sendWindow: number
  /** True once a final header section went out on the server's side. */
  answered = false
  /** True once the final response has arrived on the client's side. */
  gotResponse = false
  /** What comes after a response: none after HEAD, bytes alone after a CONNECT that was granted. */
  follows: 'content' | 'nothing' | 'tunnel' = 'content'
  /** Content the peer announced and has not sent yet; null where it announced none. */
  contentLeft: number | null = null

  readonly #host: StreamHost
  readonly #window: ReceiveWindow
  #sink: ChannelSink | null = null
  readonly #out = new ByteQueue()
  readonly #held = new ByteQueue()
  #trailers: readonly HeaderField[] | null = null
  #localEnd: 'open' | 'ending' | 'ended' = 'open'
  #remoteEnd: 'open' | 'pending' | 'told' = 'open'
  #paused = false
  #owesDrain = false
  #delivering = false
  #closed = false
  /** The goodbye has been or is being said. */
  #leaving = false
  #parting: ChannelError | null = null

  constructor(
    parts: { readonly host: StreamHost },
    settings: {
      readonly id: number
      readonly request: RequestHead | null
      readonly sendWindow: number
      readonly window: ReceiveWindowSettings
    },
  ) {
    this.#host = parts.host
    this.id = settings.id
    this.request = settings.request
    this.sendWindow = settings.sendWindow
    this.#window = new ReceiveWindow(settings.window)
  }

  /** What arrives before there is a sink waits for it. */
  get sink(): ChannelSink {
    return this.#sink ?? nobody
  }

  set sink(sink: ChannelSink) {
    const first = this.#sink === null
    this.#sink = sink
    if (first) this.#deliverSoon()
  }

  get closed(): boolean {
    return this.#closed
  }

  /** True when the connection takes no new streams. */
  get retiring(): boolean {
    return !this.#host.isOpen
  }

  /** True when the peer has ended its side, whether or not the sink knows. */
  get remoteEnded(): boolean {
    return this.#remoteEnd !== 'open'
  }

  /** True when nothing more will be sent. */
  get localEnded(): boolean {
    return this.#localEnd === 'ended'
  }

  /** Bytes that wait for the peer's credit or for the socket. */
  get waitingBytes(): number {
    return this.#out.length
  }

  write(chunk: Buffer): boolean {
    if (this.#localEnd !== 'open' || this.#closed || chunk.length === 0) return true
    const sent = this.#out.length === 0 ? this.#send(chunk) : 0
    if (sent < chunk.length) {
      this.#out.push(sent === 0 ? chunk : chunk.subarray(sent))
      this.#host.holds(this, chunk.length - sent)
    }
    return this.#mayGoOn()
  }

  writeText(text: string): boolean {
    const host = this.#host
    const { length } = text
    const fits =
      length > 0 &&
      length <= FrameWriter.textBytes &&
      length <= Math.min(this.sendWindow, host.sendWindow) &&
      this.#out.length === 0 &&
      this.#localEnd === 'open' &&
      !this.#closed &&
      !host.writer.congested
    if (!fits) return this.write(Buffer.from(text, 'latin1'))
    this.sendWindow -= length
    host.sendWindow -= length
    host.writer.text(this.id, text)
    return this.#mayGoOn()
  }

  /** Half-closes; with `trailers` in a header section of their own. */
  end(trailers: readonly HeaderField[] | null = null): void {
    if (this.#localEnd !== 'open' || this.#closed) return
    this.#localEnd = 'ending'
    this.#trailers = trailers
    if (this.#out.length === 0) this.#sendEnd()
    else this.#host.wait(this)
  }

  abort(): void {
    this.reset(errorCodes.cancel, null)
  }

  /** Ends both ways at once with an error code of ours; the sink hears `error`. */
  reset(code: number, error: ChannelError | null): void {
    if (this.#closed) return
    if (!this.#wireClosed) this.#host.sendReset(this, code)
    this.#drop(error)
    queueMicrotask(() => this.#sayGoodbye())
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    if (this.#held.length > 0 || this.#remoteEnd === 'pending') this.#deliverSoon()
    else this.#giveCredit()
  }

  /** Sends the request's or the response's header section. */
  sendHeaders(fields: readonly HeaderField[], endStream: boolean): void {
    if (this.#localEnd !== 'open' || this.#closed) return
    this.answered = true
    this.#host.sendHeaders(this, fields, endStream)
    if (endStream) this.#endedHere()
  }

  /** For the host: DATA begins. False when the peer had no credit for it. */
  arrives(bytes: number): boolean {
    return this.#window.arrive(bytes)
  }

  /** For the host: payload of DATA. */
  receive(piece: Buffer): void {
    if (this.#closed) {
      this.#host.took(piece.length)
      return
    }
    if (this.#paused || this.#sink === null || this.#held.length > 0) {
      this.#held.push(piece)
      if (this.#held.length >= this.#window.sizeBytes / 2) this.#window.strain()
      this.#host.holds(this, piece.length)
      return
    }
    this.#sink.onData(piece)
    this.#took(piece.length)
  }

  /** For the host: bytes that need no consumer, being padding. */
  discard(bytes: number): void {
    this.#took(bytes)
  }

  /** For the host: the peer has ended its side. */
  receiveEnd(): void {
    if (this.#remoteEnd !== 'open' || this.#closed) return
    this.#remoteEnd = 'pending'
    if (this.#wireClosed) this.#host.finished(this)
    if (!this.#delivering) this.#deliver()
  }

  /** For the host: the stream is lost, by the peer's reset or with the connection. */
  fail(error: ChannelError): void {
    if (this.#closed) return
    this.#drop(error)
    this.#sayGoodbye()
  }

  /** For the host: goes on writing; answers whether it would, given another turn. */
  pump(): boolean {
    if (this.#closed) return false
    let turn = turnBytes
    while (this.#out.length > 0 && turn > 0 && !this.#host.writer.congested) {
      const credit = Math.min(this.sendWindow, this.#host.sendWindow, this.#host.dataFrameBytes)
      if (credit <= 0) break
      const piece = this.#out.shift(credit)
      this.#host.holds(this, -piece.length)
      this.#emit(piece)
      turn -= piece.length
    }
    if (this.#out.length > 0 || this.#host.writer.congested) {
      this.#host.wait(this)
      return turn <= 0
    }
    if (this.#localEnd === 'ending') {
      this.#sendEnd()
    } else if (this.#owesDrain) {
      this.#owesDrain = false
      this.#sink?.onDrain()
    }
    return false
  }

  get #wireClosed(): boolean {
    return this.#localEnd === 'ended' && this.#remoteEnd !== 'open'
  }

  #mayGoOn(): boolean {
    if (this.#closed || (this.#out.length === 0 && !this.#host.writer.congested)) return true
    this.#owesDrain = true
    this.#host.wait(this)
    return false
  }

  /** Sends the start of `chunk` as far as windows and socket allow; answers how much. */
  #send(chunk: Buffer): number {
    const host = this.#host
    let sent = 0
    while (sent < chunk.length && !host.writer.congested) {
      const bytes = Math.min(
        chunk.length - sent,
        this.sendWindow,
        host.sendWindow,
        host.dataFrameBytes,
      )
      if (bytes <= 0) break
      this.#emit(bytes === chunk.length ? chunk : chunk.subarray(sent, sent + bytes))
      sent += bytes
    }
    return sent
  }

  /** Sends one DATA frame, which the windows allow. */
  #emit(piece: Buffer): void {
    this.sendWindow -= piece.length
    this.#host.sendWindow -= piece.length
    this.#host.writer.data(0, this.id, piece)
  }

  #sendEnd(): void {
    if (this.#trailers === null) this.#host.writer.data(flags.endStream, this.id, nothing)
    else this.#host.sendHeaders(this, this.#trailers, true)
    this.#endedHere()
  }

  #endedHere(): void {
    this.#localEnd = 'ended'
    if (!this.#wireClosed) return
    this.#host.finished(this)
    this.#closeIfDone()
  }

  #took(bytes: number): void {
    this.#host.took(bytes)
    this.#window.take(bytes)
    this.#giveCredit()
  }

  #giveCredit(): void {
    if (this.#paused || this.#remoteEnd !== 'open' || this.#closed) return
    const increment = this.#window.grant()
    if (increment > 0) this.#host.sendCredit(this, increment)
  }

  #deliverSoon(): void {
    if (this.#delivering) return
    this.#delivering = true
    queueMicrotask(() => {
      this.#delivering = false
      this.#deliver()
    })
  }

  /** Gives the sink what waits for it. */
  #deliver(): void {
    const sink = this.#sink
    if (sink === null) return
    if (this.#leaving) {
      this.#sayGoodbye()
      return
    }
    while (this.#held.length > 0 && !this.#paused && !this.#closed) {
      const piece = this.#held.shift(turnBytes)
      this.#host.holds(this, -piece.length)
      this.sink.onData(piece)
      this.#took(piece.length)
    }
    if (this.#held.length > 0 || this.#closed) return
    this.#giveCredit()
    if (this.#remoteEnd === 'pending' && !this.#paused) {
      this.#remoteEnd = 'told'
      this.sink.onEnd()
      this.#closeIfDone()
    }
  }

  #closeIfDone(): void {
    if (this.#localEnd !== 'ended' || this.#remoteEnd !== 'told' || this.#leaving) return
    this.#leaving = true
    queueMicrotask(() => this.#sayGoodbye())
  }

  #drop(error: ChannelError | null): void {
    this.#closed = true
    this.#leaving = true
    this.#parting = error
    this.#host.holds(this, -this.#held.length - this.#out.length)
    this.#host.took(this.#held.length)
    this.#held.clear()
    this.#out.clear()
    this.#host.gone(this)
  }

  #sayGoodbye(): void {
    if (!this.#closed) this.#drop(null)
    const sink = this.#sink
    if (sink === null || sink === departed) return
    this.#sink = departed
    sink.onClose(this.#parting)
  }
}

const silent = {
  onData(): void {},
  onEnd(): void {},
  onDrain(): void {},
  onClose(): void {},
}
/** Stands in for a sink that was never set, and for one that has been told goodbye. */
const nobody: ChannelSink = { ...silent }
const departed: ChannelSink = { ...silent }
