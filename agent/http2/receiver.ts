/**
 * Owns the judging of what a peer sends (RFC 9113 §3.4, §5 and §6): each frame against the state of
 * its stream and of the connection, and the budgets. What is right goes to the streams; what is
 * wrong becomes a fault of the right scope. It writes nothing but answers to frames. Over 400 lines,
 * so that the rules of all frames stand beside each other.
 */

import type { Clock } from '#agent/platform.ts'
import type { AbuseBudgets, AbuseSettings } from './abuse-budgets.ts'
import { type Fault, connectionFault, errorCodes, errorText } from './fault.ts'
import { FieldBlocks, type FieldSection } from './field-blocks.ts'
import { type FrameHandler, FrameReader } from './frame-reader.ts'
import type { FrameWriter } from './frame-writer.ts'
import {
  clientPreface,
  flags,
  frameName,
  frameTypes,
  maxWindowBytes,
  protocolFault,
} from './frames.ts'
import type { HeaderField } from './header-field.ts'
import { type RequestHead, judgeRequest, judgeResponse, trailerProblem } from './header-rules.ts'
import { KnownSection } from './known-section.ts'
import type { Http2Stream } from './stream.ts'
import type { StreamTable } from './stream-table.ts'

/** The connection, as its receiver sees it. */
export interface ReceiverHost {
  readonly role: 'client' | 'server'
  readonly writer: FrameWriter
  readonly streams: StreamTable
  /** The connection ends by this fault. */
  fail(fault: Fault): void
  /** A well-formed request opened a stream. */
  requested(id: number, head: RequestHead): Http2Stream
  /** True when streams above the last one are to be left unanswered. */
  readonly deafToNew: boolean
  applySettings(payload: Buffer): void
  settingsAcknowledged(): void
  /** The peer lets the whole connection send more. False beyond the largest window. */
  widen(bytes: number): boolean
  /** A stream may send more. */
  widened(stream: Http2Stream): void
  pong(payload: Buffer): void
  wentAway(lastStreamId: number, code: number, text: string): void
}

/** Settings of a receiver. */
export interface ReceiverSettings {
  readonly maxFrameBytes: number
  readonly maxHeaderListBytes: number
  readonly maxConcurrentStreams: number
  readonly connectionWindowBytes: number
}

/** Smaller window updates count as noise. */
const tinyUpdateBytes = 1024
/** See the header. */
export class Receiver implements FrameHandler {
  readonly #host: ReceiverHost
  readonly #clock: Clock
  readonly #budgets: AbuseBudgets
  readonly #settings: ReceiverSettings
  readonly #reader: FrameReader
  readonly #blocks: FieldBlocks
  readonly #requests = new KnownSection(judgeRequest)
  readonly #responses = new KnownSection(judgeResponse)
  #prefaceLeft: number
  #sawSettings = false
  #isIntroduced = false
  #stopped = false
  /** What the peer may still send on the whole connection. */
  #window: number
  /** What consumers took and the peer was not yet given back. */
  #owed = 0
  /** Of the DATA frame under way. */
  #dataStream: Http2Stream | null = null
  #dataFlags = 0
  #dataHasContent = false
  #paddingLeft = 0

  constructor(
    parts: {
      readonly host: ReceiverHost
      readonly clock: Clock
      readonly budgets: AbuseBudgets
    },
    settings: ReceiverSettings,
  ) {
    this.#host = parts.host
    this.#clock = parts.clock
    this.#budgets = parts.budgets
    this.#settings = settings
    this.#reader = new FrameReader({ handler: this }, settings)
    this.#blocks = new FieldBlocks({ maxListBytes: settings.maxHeaderListBytes })
    this.#prefaceLeft = parts.host.role === 'server' ? clientPreface.length : 0
    this.#window = settings.connectionWindowBytes
  }

  /** Takes what the socket read. */
  read(chunk: Buffer): void {
    if (this.#prefaceLeft === 0) this.#reader.read(chunk)
    else this.#readPreface(chunk)
  }

  /** Takes no more. */
  stop(): void {
    this.#stopped = true
    this.#reader.stop()
    this.#blocks.stop()
  }

  /** Consumers took bytes, which the peer may send again. */
  took(bytes: number): void {
    this.#owed += bytes
    if (this.#owed < this.#settings.connectionWindowBytes >>> 2 || this.#stopped) return
    this.#host.writer.number(frameTypes.windowUpdate, 0, this.#owed)
    this.#window += this.#owed
    this.#owed = 0
  }

  onDataBegin(streamId: number, frameFlags: number, length: number): void {
    this.#dataStream = null
    this.#dataFlags = frameFlags
    this.#dataHasContent = false
    this.#paddingLeft = length
    if (!this.#inOrder(frameTypes.data)) return
    this.#window -= length
    if (this.#window < 0) {
      this.#fail(errorCodes.flowControlError, 'DATA beyond the window of the connection')
      return
    }
    const stream = this.#host.streams.get(streamId)
    if (stream === undefined) {
      this.#onClosedStream(frameTypes.data, streamId)
    } else if (stream.remoteEnded) {
      this.#streamFault(streamId, errorCodes.streamClosed, 'DATA after its end')
    } else if (this.#host.role === 'client' && !stream.gotResponse) {
      this.#streamFault(streamId, errorCodes.protocolError, 'DATA before a response')
    } else if (!stream.arrives(length)) {
      this.#streamFault(streamId, errorCodes.flowControlError, 'DATA beyond its window')
    } else {
      this.#dataStream = stream
    }
  }

  onData(piece: Buffer): void {
    this.#dataHasContent = true
    this.#paddingLeft -= piece.length
    const stream = this.#dataStream
    if (stream === null) {
      this.took(piece.length)
      return
    }
    if (stream.contentLeft !== null) {
      stream.contentLeft -= piece.length
      if (stream.contentLeft < 0) {
        this.#dataStream = null
        this.took(piece.length)
        this.#streamFault(stream.id, errorCodes.protocolError, 'content beyond its length')
        return
      }
    }
    stream.receive(piece)
  }

  onDataEnd(): void {
    const stream = this.#dataStream
    const padding = this.#paddingLeft
    this.#dataStream = null
    const endStream = (this.#dataFlags & flags.endStream) !== 0
    if (!this.#dataHasContent && !endStream) this.#noise()
    if (stream === null) {
      if (padding > 0) this.took(padding)
      return
    }
    if (padding > 0) stream.discard(padding)
    if (endStream) this.#endStream(stream)
  }

  onFrame(type: number, frameFlags: number, streamId: number, payload: Buffer): void {
    if (!this.#inOrder(type, frameFlags)) return
    switch (type) {
      case frameTypes.headers:
        this.#onBlock(this.#blocks.begin(frameFlags, streamId, payload))
        break
      case frameTypes.continuation:
        this.#onBlock(this.#blocks.continue(frameFlags, streamId, payload))
        break
      case frameTypes.priority:
        this.#noise()
        if ((payload.readUInt32BE(0) & maxWindowBytes) === streamId) {
          this.#streamFault(streamId, errorCodes.protocolError, 'it depends on itself')
        }
        break
      case frameTypes.rstStream:
        this.#onReset(streamId, payload.readUInt32BE(0))
        break
      case frameTypes.settings:
        if ((frameFlags & flags.ack) !== 0) this.#host.settingsAcknowledged()
        else if (this.#isIntroduction() || this.#spend('settings'))
          this.#host.applySettings(payload)
        break
      case frameTypes.pushPromise:
        this.#host.fail(protocolFault(type, 'where push is off'))
        break
      case frameTypes.ping:
        if (!this.#spend('pings')) return
        if ((frameFlags & flags.ack) !== 0) this.#host.pong(payload)
        else this.#host.writer.frame(frameTypes.ping, flags.ack, 0, payload)
        break
      case frameTypes.goaway:
        this.#host.wentAway(
          payload.readUInt32BE(0) & maxWindowBytes,
          payload.readUInt32BE(4),
          payload.toString('latin1', 8, 8 + 128),
        )
        break
      case frameTypes.windowUpdate:
        this.#onWindowUpdate(streamId, payload.readUInt32BE(0) & maxWindowBytes)
        break
      default:
        this.#noise()
        break
    }
  }

  onFault(fault: Fault, streamId: number): void {
    if (fault.scope === 'connection') this.#host.fail(fault)
    else this.#streamFault(streamId, fault.code, fault.detail)
  }

  #readPreface(chunk: Buffer): void {
    const start = clientPreface.length - this.#prefaceLeft
    const length = Math.min(this.#prefaceLeft, chunk.length)
    if (clientPreface.compare(chunk, 0, length, start, start + length) !== 0) {
      this.#fail(errorCodes.protocolError, 'no HTTP/2 connection preface')
      return
    }
    this.#prefaceLeft -= length
    if (chunk.length > length) this.#reader.read(chunk.subarray(length))
  }

  /** SETTINGS come first (RFC 9113 §3.4), and nothing comes between parts of a field block (§6.10). */
  #inOrder(type: number, frameFlags = 0): boolean {
    if (!this.#sawSettings) {
      this.#sawSettings = type === frameTypes.settings && (frameFlags & flags.ack) === 0
      if (!this.#sawSettings) this.#host.fail(protocolFault(type, 'before SETTINGS'))
      return this.#sawSettings
    }
    if (this.#blocks.isOpen && type !== frameTypes.continuation) {
      this.#host.fail(protocolFault(type, 'within a field block'))
      return false
    }
    return true
  }

  /** Everybody has to send the first SETTINGS: who has many connections is not abusive for it. */
  #isIntroduction(): boolean {
    const isFirst = !this.#isIntroduced
    this.#isIntroduced = true
    return isFirst
  }

  #onBlock(step: FieldSection | Fault | null): void {
    if (step === null) return
    if ('scope' in step) this.#host.fail(step)
    else this.#onSection(step)
  }

  #onSection(section: FieldSection): void {
    const { streamId, endStream, fields } = section
    const { ids } = this.#host.streams
    const stream = this.#host.streams.get(streamId)
    if (section.dependsOnItself) {
      if (stream === undefined && ids.standing(streamId) === 'idle') this.#passOver(streamId)
      this.#streamFault(streamId, errorCodes.protocolError, 'it depends on itself')
    } else if (stream !== undefined) {
      if (stream.remoteEnded) {
        this.#streamFault(streamId, errorCodes.streamClosed, 'HEADERS after its end')
      } else if (this.#host.role === 'client' && !stream.gotResponse) {
        this.#onResponse(stream, fields, endStream)
      } else if (stream.follows === 'tunnel') {
        // RFC 9113 §8.5: its two ends are not HTTP, and have no trailers.
        this.#streamFault(streamId, errorCodes.protocolError, 'HEADERS in a tunnel')
      } else {
        this.#onTrailers(stream, fields, endStream)
      }
    } else if (this.#host.role === 'server' && streamId > ids.highest && (streamId & 1) === 1) {
      this.#onRequest(streamId, fields, endStream)
    } else {
      this.#onClosedStream(frameTypes.headers, streamId)
    }
  }

  #onRequest(id: number, fields: readonly HeaderField[], endStream: boolean): void {
    this.#passOver(id)
    if (this.#host.deafToNew) {
      this.#host.streams.ids.close(id, 'reset-here')
      return
    }
    const { size, lingering } = this.#host.streams
    const most = this.#settings.maxConcurrentStreams
    if (size >= most || size + lingering >= 2 * most) {
      this.#streamFault(id, errorCodes.refusedStream, 'too many streams')
      return
    }
    const judged = this.#requests.judge(fields)
    if (!judged.ok) {
      this.#streamFault(id, errorCodes.protocolError, judged.problem)
      return
    }
    if (endStream && (judged.head.contentLength ?? 0) > 0) {
      this.#streamFault(id, errorCodes.protocolError, 'content-length without content')
      return
    }
    const stream = this.#host.requested(id, judged.head)
    stream.contentLeft = judged.head.contentLength
    if (endStream) this.#endStream(stream)
  }

  #onResponse(stream: Http2Stream, fields: readonly HeaderField[], endStream: boolean): void {
    const judged = this.#responses.judge(fields)
    if (!judged.ok) {
      this.#streamFault(stream.id, errorCodes.protocolError, judged.problem)
      return
    }
    const { head } = judged
    if (head.status < 200) {
      if (endStream) {
        this.#streamFault(stream.id, errorCodes.protocolError, 'an interim response at its end')
      }
      this.#noise()
      return
    }
    stream.gotResponse = true
    if (stream.follows === 'tunnel' && head.status > 299) stream.follows = 'content'
    // RFC 9110 §9.3.6: what grants a CONNECT has no content, whatever length it names.
    const bare = stream.follows !== 'content' || head.status === 304 || head.status === 204
    stream.contentLeft = bare ? null : head.contentLength
    stream.heads?.onResponse(stream, head)
    if (endStream) this.#endStream(stream)
  }

  #onTrailers(stream: Http2Stream, fields: readonly HeaderField[], endStream: boolean): void {
    const problem = endStream ? trailerProblem(fields) : 'HEADERS amid content'
    if (problem !== '') {
      this.#streamFault(stream.id, errorCodes.protocolError, problem)
      return
    }
    stream.heads?.onTrailers(stream, fields)
    this.#endStream(stream)
  }

  #endStream(stream: Http2Stream): void {
    if (stream.contentLeft !== null && stream.contentLeft !== 0) {
      this.#streamFault(stream.id, errorCodes.protocolError, 'content short of its length')
      return
    }
    stream.receiveEnd()
  }

  #onReset(id: number, code: number): void {
    const { streams, role } = this.#host
    const stream = streams.get(id)
    if (stream === undefined) {
      if (streams.ids.standing(id) === 'idle') {
        this.#host.fail(protocolFault(frameTypes.rstStream, 'on an idle stream'))
      }
      return
    }
    if (role === 'server' && !stream.answered && !this.#spend('resets')) return
    streams.reset(stream, 'reset-there')
    stream.fail({ code: errorText(code), message: 'the peer reset the stream' })
  }

  #onWindowUpdate(id: number, bytes: number): void {
    if (bytes < tinyUpdateBytes) this.#noise()
    if (id === 0) {
      if (bytes === 0) this.#fail(errorCodes.protocolError, 'WINDOW_UPDATE of 0')
      else if (!this.#host.widen(bytes)) {
        this.#fail(errorCodes.flowControlError, 'a window beyond 2^31-1')
      }
      return
    }
    const stream = this.#host.streams.get(id)
    if (stream === undefined) {
      if (this.#host.streams.ids.standing(id) === 'idle') {
        this.#host.fail(protocolFault(frameTypes.windowUpdate, 'on an idle stream'))
      }
    } else if (bytes === 0) {
      this.#streamFault(id, errorCodes.protocolError, 'WINDOW_UPDATE of 0')
    } else if (stream.sendWindow + bytes > maxWindowBytes) {
      this.#streamFault(id, errorCodes.flowControlError, 'a window beyond 2^31-1')
    } else {
      stream.sendWindow += bytes
      this.#host.widened(stream)
    }
  }

  /** DATA or HEADERS on a stream that is not open (RFC 9113 §5.1). */
  #onClosedStream(type: number, id: number): void {
    switch (this.#host.streams.ids.standing(id)) {
      case 'idle':
      case 'skipped':
        this.#host.fail(protocolFault(type, 'on a stream that cannot be open'))
        break
      case 'finished':
        this.#fail(errorCodes.streamClosed, `${frameName(type)} on a finished stream`)
        break
      case 'reset-there':
      case 'forgotten':
        this.#streamFault(id, errorCodes.streamClosed, `${frameName(type)} on a closed stream`)
        break
      case 'reset-here':
        break
    }
  }

  /** Counts an id as used though no stream comes of it. */
  #passOver(id: number): void {
    const { ids } = this.#host.streams
    if (id > ids.highest) ids.open(id)
  }

  /** Ends a stream for the peer's fault, which is budgeted like a reset of the peer's own. */
  #streamFault(id: number, code: number, detail: string): void {
    if (this.#stopped) return
    const { streams, writer } = this.#host
    const stream = streams.get(id)
    if (stream === undefined && streams.ids.standing(id) === 'idle') {
      this.#fail(code, detail)
      return
    }
    if (!this.#spend('resets')) return
    if (stream !== undefined) {
      stream.reset(code, { code: errorText(code), message: detail })
    } else {
      writer.number(frameTypes.rstStream, id, code)
      streams.ids.close(id, 'reset-here')
    }
  }

  #noise(): void {
    this.#spend('noise')
  }

  #spend(what: keyof AbuseSettings): boolean {
    if (this.#budgets.spend(what, this.#clock.elapsed())) return true
    this.#fail(errorCodes.enhanceYourCalm, `too many ${what} frames`)
    return false
  }

  #fail(code: number, detail: string): void {
    this.#host.fail(connectionFault(code, detail))
  }
}
