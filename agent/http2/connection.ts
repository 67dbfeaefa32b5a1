/**
 * Owns one HTTP/2 connection (RFC 9113) in either role: its life from the preface to the last
 * goodbye, its streams, and all that is sent. What arrives is judged by the receiver. It knows
 * neither tunnels nor requests. Over 400 lines, because it is the one place where the two meet.
 */

import type { Duplex } from 'node:stream'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { ChannelError, ChannelSink, Clock } from '#agent/platform.ts'
import { AbuseBudgets, defaultAbuseSettings } from './abuse-budgets.ts'
import { type Fault, connectionFault, errorCodes, errorText } from './fault.ts'
import { FrameWriter } from './frame-writer.ts'
import { clientPreface, flags, frameTypes, maxWindowBytes } from './frames.ts'
import type { HeaderField } from './header-field.ts'
import type { RequestHead } from './header-rules.ts'
import { HeldBytes } from './held-bytes.ts'
import { HpackEncoder } from './hpack-encoder.ts'
import {
  initialPeerSettings,
  readPeerSettings,
  settingIds,
  settingsPayload,
} from './peer-settings.ts'
import { Receiver, type ReceiverHost } from './receiver.ts'
import { type HeadSink, Http2Stream, type StreamHost } from './stream.ts'
import { StreamTable } from './stream-table.ts'

/** Why a connection ended. */
export interface ConnectionEnd {
  /** `H2_<ERROR>`, a Node error code, or `closed` where the socket just ended. */
  readonly code: string
  readonly message: string
  /** Whose doing it was. */
  readonly by: 'here' | 'peer' | 'network'
}

/** Is told of a connection's life. */
export interface ConnectionOwner {
  /** A request opened a stream; server's role only. */
  onStream(stream: Http2Stream): void
  /** The peer's limits are known, or have changed. */
  onSettings(): void
  /** The peer takes no new streams; open ones go on. */
  onGoaway(): void
  /** A stream is over on the wire; another may be opened in its place. */
  onStreamEnd(): void
  /** It is over, exactly once, after all its streams were told. */
  onClose(end: ConnectionEnd): void
}

/** Settings of a connection. */
export interface ConnectionSettings {
  readonly role: 'client' | 'server'
  /** Streams the peer may have open. @default 1000 */
  readonly maxConcurrentStreams?: number
  /** Largest list of header fields to take, bytes. @default 16384 */
  readonly maxHeaderListBytes?: number
  /** Receive window a stream starts with, bytes, 65535 or more. @default 262144 */
  readonly streamWindowBytes?: number
  /** What that window may grow to for a fast consumer, bytes. @default 4194304 */
  readonly maxStreamWindowBytes?: number
  /** Receive window of the whole connection, bytes. @default 268435456 */
  readonly connectionWindowBytes?: number
  /** How long the peer may take to acknowledge our settings. @default 10000 */
  readonly settingsTimeoutMs?: number
}

/** Largest frame we take, and the largest payload we send where the peer takes it. */
const maxFrameBytes = 65_536
/** Control frames that may wait for a peer that does not read. */
const maxPendingBytes = 8 * 1024 * 1024
/** How long a peer may take to read our last words. */
const lingerMs = 1000

/** See the header. */
export class Http2Connection implements StreamHost, ReceiverHost {
  readonly role: 'client' | 'server'
  readonly writer: FrameWriter
  readonly streams = new StreamTable()
  sendWindow: number = initialPeerSettings.initialWindowBytes
  dataFrameBytes: number = initialPeerSettings.maxFrameBytes
  /** Bytes the socket has read. */
  bytesRead = 0

  readonly #socket: Duplex
  readonly #clock: Clock
  readonly #owner: ConnectionOwner
  readonly #held: HeldBytes
  readonly #receiver: Receiver
  readonly #encoder = new HpackEncoder()
  readonly #maxConcurrentStreams: number
  readonly #window: { readonly initialBytes: number; readonly maxBytes: number }
  readonly #waiting = new Set<Http2Stream>()
  readonly #pings: (() => void)[] = []
  #pingNumber = 0
  #peer = initialPeerSettings
  #settingsTimer: { stop(): void } | null
  /** `draining`: no new streams, by our wish or the peer's. `closed`: the owner was told. */
  #state: 'open' | 'draining' | 'closed' = 'open'
  /** True once it is settled which stream is the last. */
  #deafToNew = false
  /** The error by which the peer said it goes. */
  #farewell: ConnectionEnd | null = null

  constructor(
    parts: {
      /** A connected socket, whose handshake is over; the connection takes it whole. */
      readonly socket: Duplex
      readonly clock: Clock
      readonly owner: ConnectionOwner
      /** Shared with other connections, to bound what waits for slow consumers. @default 256 MiB */
      readonly held?: HeldBytes
      /** Shared by all connections of one peer. @default the connection's own */
      readonly budgets?: AbuseBudgets
    },
    settings: ConnectionSettings,
  ) {
    this.role = settings.role
    this.#socket = parts.socket
    this.#clock = parts.clock
    this.#owner = parts.owner
    this.#held = parts.held ?? new HeldBytes({ limitBytes: 268_435_456 })
    this.#maxConcurrentStreams = settings.maxConcurrentStreams ?? 1000
    this.#window = {
      initialBytes: settings.streamWindowBytes ?? 262_144,
      maxBytes: settings.maxStreamWindowBytes ?? 4_194_304,
    }
    this.writer = new FrameWriter({ socket: parts.socket })
    const receiverSettings = {
      maxFrameBytes,
      maxHeaderListBytes: settings.maxHeaderListBytes ?? 16_384,
      maxConcurrentStreams: this.#maxConcurrentStreams,
      connectionWindowBytes: settings.connectionWindowBytes ?? 268_435_456,
    }
    const { clock } = parts
    const budgets = parts.budgets ?? new AbuseBudgets(defaultAbuseSettings, clock.elapsed())
    this.#receiver = new Receiver({ host: this, clock, budgets }, receiverSettings)
    this.#settingsTimer = clock.after(settings.settingsTimeoutMs ?? 10_000, () =>
      this.fail(connectionFault(errorCodes.settingsTimeout, 'SETTINGS were not acknowledged')),
    )
    this.#introduce(receiverSettings)
    this.#listen()
  }

  /** True when a stream can be opened now. */
  get canOpen(): boolean {
    return this.#state === 'open' && this.streams.size < this.#peer.maxConcurrentStreams
  }

  /** True while the peer lets us open none at all, however few there are. */
  get mayOpenNone(): boolean {
    return this.#peer.maxConcurrentStreams === 0
  }

  /** True while it takes and opens streams. */
  get isOpen(): boolean {
    return this.#state === 'open'
  }

  get deafToNew(): boolean {
    return this.#deafToNew
  }

  /** Opens a stream, client's role only; null where {@link canOpen} is false. */
  open(
    fields: readonly HeaderField[],
    listeners: { readonly sink: ChannelSink; readonly heads: HeadSink },
  ): Http2Stream | null {
    const id = this.canOpen ? this.streams.ids.next() : null
    if (id === null) return null
    const stream = this.#makeStream(id, null)
    stream.heads = listeners.heads
    stream.sink = listeners.sink
    stream.follows = whatFollows(fields.find(({ name }) => name === ':method')?.value)
    stream.sendHeaders(fields, false)
    return stream
  }

  /** Sends a PING; `answered` is called when its answer arrives, if it does. */
  ping(answered: () => void): void {
    if (this.#state === 'closed') return
    this.#pings.push(answered)
    const payload = Buffer.alloc(8)
    payload.writeUInt32BE(this.#pingNumber++ >>> 0, 4)
    this.writer.frame(frameTypes.ping, 0, 0, payload)
  }

  /**
   * Takes and opens no more streams, lets open ones finish, then closes. Requests under way are not
   * lost: the last stream is named only after the peer has heard of it (RFC 9113 §6.8).
   */
  drain(): void {
    if (this.#state === 'closed' || this.#deafToNew) return
    this.#state = 'draining'
    if (this.role === 'client') {
      this.#deafToNew = true
      this.#goaway(0, errorCodes.noError, '')
      this.#closeIfDrained()
      return
    }
    this.#goaway(maxWindowBytes, errorCodes.noError, '')
    this.ping(() => {
      this.#deafToNew = true
      this.#goaway(this.streams.ids.highest, errorCodes.noError, '')
      this.#closeIfDrained()
    })
  }

  /** Closes now; streams are lost, with `message` as the reason. */
  close(message: string): void {
    this.#depart(errorCodes.noError, { code: 'closed', message, by: 'here' })
  }

  fail(fault: Fault): void {
    const { code, detail } = fault
    this.#depart(code, { code: errorText(code), message: detail, by: 'here' })
  }

  // What streams ask for.

  took(bytes: number): void {
    this.#receiver.took(bytes)
  }

  holds(stream: Http2Stream, bytes: number): void {
    if (this.#held.add(bytes) || bytes < 0) return
    const message = 'too many bytes wait for slow consumers on this host'
    stream.reset(errorCodes.enhanceYourCalm, {
      code: errorText(errorCodes.enhanceYourCalm),
      message,
    })
  }

  sendCredit(stream: Http2Stream, bytes: number): void {
    this.writer.number(frameTypes.windowUpdate, stream.id, bytes)
  }

  sendHeaders(stream: Http2Stream, fields: readonly HeaderField[], endStream: boolean): void {
    const block = this.#encoder.encode(fields)
    const most = this.#peer.maxFrameBytes
    const endFlag = endStream ? flags.endStream : 0
    if (block.length <= most) {
      this.writer.frame(frameTypes.headers, flags.endHeaders | endFlag, stream.id, block)
      return
    }
    this.writer.frame(frameTypes.headers, endFlag, stream.id, block.subarray(0, most))
    for (let at = most; at < block.length; at += most) {
      const last = at + most >= block.length ? flags.endHeaders : 0
      this.writer.frame(frameTypes.continuation, last, stream.id, block.subarray(at, at + most))
    }
  }

  sendReset(stream: Http2Stream, code: number): void {
    this.writer.number(frameTypes.rstStream, stream.id, code)
    this.streams.reset(stream, 'reset-here')
    this.#ended()
  }

  wait(stream: Http2Stream): void {
    this.#waiting.add(stream)
  }

  finished(stream: Http2Stream): void {
    this.streams.finish(stream)
    this.#ended()
  }

  gone(stream: Http2Stream): void {
    this.#waiting.delete(stream)
    this.streams.gone(stream)
    this.#closeIfDrained()
  }

  // What the receiver asks for.

  requested(id: number, head: RequestHead): Http2Stream {
    const stream = this.#makeStream(id, head)
    this.#owner.onStream(stream)
    return stream
  }

  applySettings(payload: Buffer): void {
    const before = this.#peer
    const after = readPeerSettings(before, payload, this.role === 'server' ? 'client' : 'server')
    if ('scope' in after) {
      this.fail(after)
      return
    }
    const more = after.initialWindowBytes - before.initialWindowBytes
    for (const stream of more === 0 ? [] : this.streams.all()) {
      stream.sendWindow += more
      if (stream.sendWindow > maxWindowBytes) {
        this.fail(connectionFault(errorCodes.flowControlError, 'a window beyond 2^31-1'))
        return
      }
    }
    this.#peer = after
    this.dataFrameBytes = Math.min(after.maxFrameBytes, maxFrameBytes)
    this.#encoder.setPeerTableBytes(after.headerTableBytes)
    this.writer.frame(frameTypes.settings, flags.ack, 0, nothing)
    if (more > 0) this.#pump()
    this.#owner.onSettings()
  }

  settingsAcknowledged(): void {
    this.#settingsTimer?.stop()
    this.#settingsTimer = null
  }

  widen(bytes: number): boolean {
    this.sendWindow += bytes
    if (this.sendWindow > maxWindowBytes) return false
    this.#pump()
    return true
  }

  widened(stream: Http2Stream): void {
    if (!this.#waiting.delete(stream)) return
    while (stream.pump()) this.#waiting.delete(stream)
  }

  pong(payload: Buffer): void {
    const oldest = this.#pingNumber - this.#pings.length
    if (this.#pings.length === 0 || payload.readUInt32BE(4) !== oldest >>> 0) return
    this.#pings.shift()?.()
  }

  wentAway(lastStreamId: number, code: number, text: string): void {
    if (code !== errorCodes.noError) {
      this.#farewell = { code: errorText(code), message: `the peer said: ${text}`, by: 'peer' }
    }
    if (this.role === 'server') return
    if (this.#state === 'open') this.#state = 'draining'
    for (const stream of this.streams.all()) {
      if (stream.id <= lastStreamId) continue
      this.streams.reset(stream, 'reset-there')
      stream.fail(unprocessed)
    }
    this.#deafToNew = true
    this.#owner.onGoaway()
    this.#closeIfDrained()
  }

  #makeStream(id: number, request: RequestHead | null): Http2Stream {
    const stream = new Http2Stream(
      { host: this },
      { id, request, sendWindow: this.#peer.initialWindowBytes, window: this.#window },
    )
    stream.follows = whatFollows(request?.method)
    this.streams.add(stream)
    return stream
  }

  #introduce(settings: { maxHeaderListBytes: number; connectionWindowBytes: number }): void {
    if (this.role === 'client') this.writer.raw(clientPreface)
    const payload = settingsPayload([
      this.role === 'client'
        ? [settingIds.enablePush, 0]
        : [settingIds.maxConcurrentStreams, this.#maxConcurrentStreams],
      [settingIds.initialWindowSize, this.#window.initialBytes],
      [settingIds.maxFrameSize, maxFrameBytes],
      [settingIds.maxHeaderListSize, settings.maxHeaderListBytes],
    ])
    this.writer.frame(frameTypes.settings, 0, 0, payload)
    const more = settings.connectionWindowBytes - initialPeerSettings.initialWindowBytes
    this.writer.number(frameTypes.windowUpdate, 0, more)
  }

  #listen(): void {
    const socket = this.#socket
    socket.on('data', (chunk: Buffer) => {
      if (this.#state === 'closed') return
      this.bytesRead += chunk.length
      this.#receiver.read(chunk)
      if (this.writer.congested && this.writer.pendingBytes > maxPendingBytes) {
        this.fail(connectionFault(errorCodes.enhanceYourCalm, 'answers are not read'))
      }
    })
    socket.on('drain', () => {
      this.writer.drained()
      this.#pump()
    })
    socket.on('end', () => {
      if (this.#state === 'closed') return
      this.#finish(this.#farewell ?? { code: 'closed', message: 'the peer closed', by: 'peer' })
      this.#partFromSocket()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      const code = error.code ?? 'ERR_SOCKET'
      this.#finish(this.#farewell ?? { code, message: messageOf(error), by: 'network' })
    })
    socket.on('close', () => {
      this.#finish(this.#farewell ?? { code: 'closed', message: 'the socket ended', by: 'network' })
    })
  }

  /** Lets those who wait write, each in its turn, until nobody can. */
  #pump(): void {
    let again = this.#waiting.size > 0
    while (again && !this.writer.congested) {
      again = false
      const round = [...this.#waiting]
      this.#waiting.clear()
      for (const stream of round) again = stream.pump() || again
    }
  }

  #ended(): void {
    if (this.#state !== 'closed') this.#owner.onStreamEnd()
  }

  #closeIfDrained(): void {
    if (this.#state !== 'draining' || !this.#deafToNew) return
    if (this.streams.size + this.streams.lingering > 0) return
    const end = this.#farewell ?? { code: 'H2_NO_ERROR', message: 'all streams done', by: 'here' }
    this.#finish(end)
    this.#partFromSocket()
  }

  #goaway(lastStreamId: number, code: number, text: string): void {
    const payload = Buffer.alloc(8 + Math.min(text.length, 128))
    payload.writeUInt32BE(lastStreamId, 0)
    payload.writeUInt32BE(code, 4)
    payload.write(text, 8, 'latin1')
    this.writer.frame(frameTypes.goaway, 0, 0, payload)
  }

  /** Ends the connection from here, telling the peer why. */
  #depart(code: number, end: ConnectionEnd): void {
    if (this.#state === 'closed') return
    const last = this.role === 'server' ? this.streams.ids.highest : 0
    this.#goaway(last, code, code === errorCodes.noError ? '' : end.message)
    this.#finish(end)
    this.#partFromSocket()
  }

  #finish(end: ConnectionEnd): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#receiver.stop()
    this.settingsAcknowledged()
    this.#pings.length = 0
    this.#waiting.clear()
    for (const stream of this.streams.all()) {
      this.streams.reset(stream, 'reset-there')
      stream.fail(end)
    }
    this.#owner.onClose(end)
  }

  /** Says the last words and waits a little for them to be read, lest a TCP reset overtakes them. */
  #partFromSocket(): void {
    const socket = this.#socket
    this.writer.flush()
    socket.end()
    const timer = this.#clock.after(lingerMs, () => socket.destroy())
    socket.once('close', () => timer.stop())
  }
}

const nothing = Buffer.alloc(0)

function whatFollows(method: string | undefined): Http2Stream['follows'] {
  return method === 'CONNECT' ? 'tunnel' : method === 'HEAD' ? 'nothing' : 'content'
}

/** What a stream hears that the peer says it never looked at: it may be tried again elsewhere. */
const unprocessed: ChannelError = {
  code: errorText(errorCodes.refusedStream),
  message: 'the peer went away before it looked at the stream',
}
