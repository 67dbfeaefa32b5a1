/**
 * Owns the cutting of a byte stream into frames (RFC 9113 §4.1), however the bytes arrive. DATA is
 * handed on in the pieces that arrive; other frames are handed on whole, copied only when they were
 * split. Memory is bounded by one frame.
 */

import { type Fault, connectionFault, errorCodes } from './fault.ts'
import { checkFrameHeader, flags, frameTypes, headerBytes } from './frames.ts'

/** Is told what the reader found. */
export interface FrameHandler {
  /** A DATA frame begins; `length` counts padding too, as flow control does. */
  onDataBegin(streamId: number, frameFlags: number, length: number): void
  /** Payload of the DATA frame that began, without padding. */
  onData(piece: Buffer): void
  /** The DATA frame is over. */
  onDataEnd(): void
  /** Any other whole frame, of a size its type allows. Unknown types come with no payload. */
  onFrame(type: number, frameFlags: number, streamId: number, payload: Buffer): void
  /** A frame that breaks the rules by its shape. After a stream fault it is skipped. */
  onFault(fault: Fault, streamId: number): void
}

const nothing = Buffer.alloc(0)

/** See the header. */
export class FrameReader {
  readonly #handler: FrameHandler
  readonly #maxFrameBytes: number
  readonly #header = Buffer.alloc(headerBytes)
  #headerLength = 0
  #stopped = false
  #type = 0
  #flags = 0
  #streamId = 0
  /** Payload bytes of the current frame still to come. */
  #remaining = 0
  /** What becomes of the payload of the current frame. */
  #mode: 'data' | 'collect' | 'skip' = 'skip'
  #collected: Buffer = nothing
  #collectedLength = 0
  /** Padding at the end of the current DATA frame; -1 while its length has not arrived. */
  #padding = 0

  constructor(
    parts: { readonly handler: FrameHandler },
    /** `maxFrameBytes`: the SETTINGS_MAX_FRAME_SIZE we announced. */
    settings: { readonly maxFrameBytes: number },
  ) {
    this.#handler = parts.handler
    this.#maxFrameBytes = settings.maxFrameBytes
  }

  /** Ends all reading, from within a handler too. */
  stop(): void {
    this.#stopped = true
    this.#collected = nothing
  }

  /** Takes the next bytes. */
  read(chunk: Buffer): void {
    const end = chunk.length
    let at = 0
    while (at < end && !this.#stopped) {
      if (this.#remaining > 0) {
        at = this.#payload(chunk, at, Math.min(end, at + this.#remaining))
      } else if (this.#headerLength === 0 && end - at >= headerBytes) {
        this.#begin(chunk, at)
        at += headerBytes
      } else {
        this.#header[this.#headerLength++] = chunk[at++] as number
        if (this.#headerLength === headerBytes) {
          this.#headerLength = 0
          this.#begin(this.#header, 0)
        }
      }
    }
  }

  #begin(source: Buffer, at: number): void {
    const length =
      ((source[at] as number) << 16) |
      ((source[at + 1] as number) << 8) |
      (source[at + 2] as number)
    const type = (this.#type = source[at + 3] as number)
    const frameFlags = (this.#flags = source[at + 4] as number)
    const streamId = (this.#streamId = source.readUInt32BE(at + 5) & 0x7fffffff)
    this.#remaining = length
    const fault =
      length > this.#maxFrameBytes
        ? connectionFault(errorCodes.frameSizeError, `a frame of ${length} bytes`)
        : checkFrameHeader(type, frameFlags, streamId, length)
    if (fault !== null) {
      this.#mode = 'skip'
      this.#handler.onFault(fault, streamId)
    } else if (type === frameTypes.data) {
      this.#beginData(length)
    } else if (type > frameTypes.continuation) {
      this.#mode = 'skip'
      this.#handler.onFrame(type, frameFlags, streamId, nothing)
    } else if (length === 0) {
      this.#handler.onFrame(type, frameFlags, streamId, nothing)
    } else {
      this.#mode = 'collect'
    }
  }

  #beginData(length: number): void {
    const padded = (this.#flags & flags.padded) !== 0
    if (padded && length === 0) {
      this.#handler.onFault(
        connectionFault(errorCodes.frameSizeError, 'DATA without its padding length'),
        this.#streamId,
      )
      return
    }
    this.#mode = 'data'
    this.#padding = padded ? -1 : 0
    this.#handler.onDataBegin(this.#streamId, this.#flags, length)
    if (length === 0 && !this.#stopped) this.#handler.onDataEnd()
  }

  #payload(chunk: Buffer, start: number, end: number): number {
    switch (this.#mode) {
      case 'data':
        return this.#dataPayload(chunk, start, end)
      case 'collect':
        this.#remaining -= end - start
        this.#collect(chunk, start, end)
        return end
      case 'skip':
        this.#remaining -= end - start
        return end
    }
  }

  #dataPayload(chunk: Buffer, start: number, end: number): number {
    if (this.#padding < 0) {
      this.#padding = chunk[start] as number
      this.#remaining--
      if (this.#padding > this.#remaining) {
        this.#handler.onFault(
          connectionFault(errorCodes.protocolError, 'DATA is padded beyond its end'),
          this.#streamId,
        )
        return end
      }
      start++
    }
    const dataEnd = Math.min(end, start + this.#remaining - this.#padding)
    this.#remaining -= end - start
    if (dataEnd > start) {
      this.#handler.onData(
        start === 0 && dataEnd === chunk.length ? chunk : chunk.subarray(start, dataEnd),
      )
    }
    if (this.#remaining === 0 && !this.#stopped) this.#handler.onDataEnd()
    return end
  }

  #collect(chunk: Buffer, start: number, end: number): void {
    let payload = chunk.subarray(start, end)
    if (this.#remaining > 0 || this.#collectedLength > 0) {
      if (this.#collectedLength === 0) {
        this.#collected = Buffer.allocUnsafe(payload.length + this.#remaining)
      }
      this.#collected.set(payload, this.#collectedLength)
      this.#collectedLength += payload.length
      if (this.#remaining > 0) return
      payload = this.#collected
      this.#collected = nothing
      this.#collectedLength = 0
    }
    this.#handler.onFrame(this.#type, this.#flags, this.#streamId, payload)
  }
}
