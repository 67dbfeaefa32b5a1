/**
 * Owns a bare HTTP/2 peer for tests that break the rules: it writes any bytes and keeps the frames it
 * gets, with a parser of its own.
 */

import { once } from 'node:events'
import { duplexPair, type Duplex } from 'node:stream'
import {
  type ConnectionEnd,
  type ConnectionOwner,
  type ConnectionSettings,
  Http2Connection,
} from '#agent/http2/connection.ts'
import type { AbuseBudgets } from '#agent/http2/abuse-budgets.ts'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Http2Stream } from '#agent/http2/stream.ts'
import { type Clock, systemClock } from '#shared/lifecycle/clock.ts'
import { RecordedSink } from './recorded-channel.ts'

/** A frame as it was read. */
export interface RawFrame {
  readonly type: number
  readonly flags: number
  readonly streamId: number
  readonly payload: Buffer
}

/** Frame types by name. */
export const types = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const

/** The client's preface. */
export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

/** The bytes of a frame. */
export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Buffer | string | readonly number[] = [],
): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'hex') : Buffer.from(payload)
  const head = Buffer.alloc(9)
  head.writeUIntBE(body.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(streamId, 5)
  return Buffer.concat([head, body])
}

/** A 32-bit number as a payload. */
export function uint32(value: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32BE(value)
  return payload
}

/** GET / of `localhost`, as HPACK without dynamic table. */
export const getBlock = Buffer.concat([
  Buffer.from([0x82, 0x84, 0x86, 0x01, 9]),
  Buffer.from('localhost'),
])
/** CONNECT to `h:1`. */
export const connectBlock = Buffer.concat([
  Buffer.from([0x02, 7]),
  Buffer.from('CONNECT'),
  Buffer.from([0x01, 3]),
  Buffer.from('h:1'),
])

/** The frames in some bytes, which must end with one. */
export function parseFrames(bytes: Buffer): { frames: RawFrame[]; rest: Buffer } {
  const frames: RawFrame[] = []
  let at = 0
  while (bytes.length - at >= 9) {
    const length = bytes.readUIntBE(at, 3)
    if (bytes.length - at < 9 + length) break
    frames.push({
      type: bytes[at + 3] as number,
      flags: bytes[at + 4] as number,
      streamId: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, at + 9 + length),
    })
    at += 9 + length
  }
  return { frames, rest: bytes.subarray(at) }
}

/** Our connection on one side, the bare peer on the other. */
export class RawPeer {
  readonly connection: Http2Connection
  readonly socket: Duplex
  readonly frames: RawFrame[] = []
  readonly streams: Http2Stream[] = []
  readonly sinks: RecordedSink[] = []
  /** Once ours is over. */
  end: ConnectionEnd | null = null
  goaways = 0
  #rest = Buffer.alloc(0)
  #closed = false

  constructor(
    settings: ConnectionSettings,
    parts: {
      readonly clock?: Clock
      readonly budgets?: AbuseBudgets
      readonly held?: HeldBytes
      readonly onStream?: (stream: Http2Stream) => void
    } = {},
  ) {
    const [ours, theirs] = duplexPair()
    this.socket = theirs
    const owner: ConnectionOwner = {
      onStream: (stream) => {
        this.streams.push(stream)
        if (parts.onStream === undefined) {
          const sink = new RecordedSink()
          this.sinks.push(sink)
          stream.sink = sink
        } else parts.onStream(stream)
      },
      onSettings() {},
      onGoaway: () => {
        this.goaways++
      },
      onStreamEnd() {},
      onClose: (end) => {
        this.end = end
      },
    }
    let skip = settings.role === 'client' ? preface.length : 0
    theirs.on('data', (chunk: Buffer) => {
      const fresh = skip > 0 ? chunk.subarray(skip) : chunk
      skip = Math.max(0, skip - chunk.length)
      const { frames, rest } = parseFrames(Buffer.concat([this.#rest, fresh]))
      this.frames.push(...frames)
      this.#rest = Buffer.from(rest)
    })
    theirs.on('error', () => {})
    theirs.once('end', () => {
      this.#closed = true
    })
    this.connection = new Http2Connection(
      { socket: ours, clock: systemClock, owner, ...parts },
      settings,
    )
  }

  /** Says the first words of a well-behaved peer. */
  greet(settings: Buffer = Buffer.alloc(0)): this {
    if (this.connection.role === 'server') this.socket.write(preface)
    return this.send(frame(types.settings, 0, 0, settings), frame(types.settings, 1, 0))
  }

  /** Writes bytes. */
  send(...pieces: readonly Buffer[]): this {
    this.socket.write(Buffer.concat(pieces))
    return this
  }

  /** Waits for a frame. */
  async frame(found: (frame: RawFrame) => boolean): Promise<RawFrame> {
    for (;;) {
      const match = this.frames.find(found)
      if (match !== undefined) return match
      if (this.#closed) throw new Error('the connection ended without that frame')
      await Promise.race([once(this.socket, 'data'), once(this.socket, 'end')])
    }
  }

  /** Waits for a frame of a type. */
  frameOf(type: number, streamId?: number): Promise<RawFrame> {
    return this.frame(
      (one) => one.type === type && (streamId === undefined || one.streamId === streamId),
    )
  }

  /** Waits until all that was sent so far has been dealt with. */
  async settled(): Promise<void> {
    const payload = Buffer.alloc(8, 0x5a)
    this.frames.length = 0
    this.send(frame(types.ping, 0, 0, payload))
    await this.frame((one) => one.type === types.ping && one.payload.equals(payload))
  }

  /** Waits for our GOAWAY with an error and answers its code. */
  async goawayCode(): Promise<number> {
    const { payload } = await this.frameOf(types.goaway)
    return payload.readUInt32BE(4)
  }

  /** Waits for our RST_STREAM and answers its code; a GOAWAY instead is an error. */
  async resetCode(streamId: number): Promise<number> {
    const match = await this.frame(
      (one) =>
        (one.type === types.rstStream && one.streamId === streamId) || one.type === types.goaway,
    )
    if (match.type === types.goaway) {
      throw new Error(
        `GOAWAY ${match.payload.readUInt32BE(4)}: ${match.payload.toString('latin1', 8)}`,
      )
    }
    return match.payload.readUInt32BE(0)
  }
}
