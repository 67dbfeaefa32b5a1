/**
 * Owns what a connection is about to write. Frames of one turn of the event loop share one write:
 * headers and small payloads are copied into a slab, large payloads go beside it uncopied. It judges
 * nothing: windows and states are its users' business.
 */

import type { Duplex } from 'node:stream'
import { frameTypes, headerBytes } from './frames.ts'

const slabBytes = 65_536
/** Payloads up to this size are cheaper to copy than to write apart. */
const smallBytes = 4096
/** A batch this large is written before the turn ends. */
const flushBytes = 262_144

/** Collects frames and writes them. */
export class FrameWriter {
  readonly #socket: Duplex
  readonly #flushLater = (): void => this.flush()
  #slab = Buffer.allocUnsafeSlow(slabBytes)
  /** Bytes of the slab that were handed on, and that are in use. */
  #from = 0
  #to = 0
  #pieces: Buffer[] = []
  #pieceBytes = 0
  #armed = false
  #congested = false

  constructor(parts: { readonly socket: Duplex }) {
    this.#socket = parts.socket
  }

  /** True while the socket has more than it can take; data should wait until it has drained. */
  get congested(): boolean {
    return this.#congested
  }

  /** Bytes not yet handed to the kernel. */
  get pendingBytes(): number {
    return this.#socket.writableLength + this.#pieceBytes + this.#to - this.#from
  }

  /** The socket has drained. */
  drained(): void {
    this.#congested = false
  }

  /** Bytes that are no frame: the client's preface. */
  raw(bytes: Buffer): void {
    this.#append(bytes)
    this.#arm()
  }

  /** A frame that carries one number: RST_STREAM, WINDOW_UPDATE. */
  number(type: number, streamId: number, value: number): void {
    this.#header(type, 0, streamId, 4)
    this.#reserve(4)
    this.#to = this.#slab.writeUInt32BE(value, this.#to)
  }

  /** A frame whose payload is copied, so that it may change afterwards. */
  frame(type: number, flags: number, streamId: number, payload: Buffer): void {
    this.#header(type, flags, streamId, payload.length)
    this.#append(payload.length > smallBytes ? Buffer.from(payload) : payload)
  }

  /** A DATA frame; its payload must not change any more. */
  data(flags: number, streamId: number, payload: Buffer): void {
    this.#header(frameTypes.data, flags, streamId, payload.length)
    this.#append(payload)
    if (this.#pieceBytes >= flushBytes) this.flush()
  }

  /** A DATA frame of Latin-1 text, which must be short: {@link textBytes}. */
  text(streamId: number, text: string): void {
    this.#header(frameTypes.data, 0, streamId, text.length)
    this.#reserve(text.length)
    this.#to += this.#slab.write(text, this.#to, 'latin1')
  }

  /** Longest text of {@link text}. */
  static readonly textBytes = smallBytes

  /** Writes what there is. */
  flush(): void {
    this.#armed = false
    const socket = this.#socket
    if (socket.destroyed || socket.writableEnded) return
    if (this.#pieces.length === 0) {
      if (this.#to === this.#from) return
      socket.write(this.#takeSlab())
    } else {
      if (this.#to > this.#from) this.#pieces.push(this.#takeSlab())
      const pieces = this.#pieces
      this.#pieces = []
      this.#pieceBytes = 0
      socket.cork()
      for (const piece of pieces) socket.write(piece)
      socket.uncork()
    }
    this.#congested = socket.writableNeedDrain
    if (this.#to > slabBytes - smallBytes) this.#newSlab()
  }

  #header(type: number, flags: number, streamId: number, length: number): void {
    this.#reserve(headerBytes)
    const slab = this.#slab
    const at = this.#to
    slab[at] = length >>> 16
    slab[at + 1] = length >>> 8
    slab[at + 2] = length
    slab[at + 3] = type
    slab[at + 4] = flags
    slab[at + 5] = streamId >>> 24
    slab[at + 6] = streamId >>> 16
    slab[at + 7] = streamId >>> 8
    slab[at + 8] = streamId
    this.#to = at + headerBytes
    this.#arm()
  }

  #append(bytes: Buffer): void {
    if (bytes.length <= smallBytes) {
      this.#reserve(bytes.length)
      this.#slab.set(bytes, this.#to)
      this.#to += bytes.length
      return
    }
    if (this.#to > this.#from) this.#addPiece(this.#takeSlab())
    this.#addPiece(bytes)
  }

  /** Makes room for a small payload. */
  #reserve(bytes: number): void {
    if (this.#to + bytes <= slabBytes) return
    if (this.#to > this.#from) this.#addPiece(this.#takeSlab())
    this.#newSlab()
  }

  #addPiece(piece: Buffer): void {
    this.#pieces.push(piece)
    this.#pieceBytes += piece.length
  }

  #takeSlab(): Buffer {
    const taken = this.#slab.subarray(this.#from, this.#to)
    this.#from = this.#to
    return taken
  }

  #newSlab(): void {
    this.#slab = Buffer.allocUnsafeSlow(slabBytes)
    this.#from = this.#to = 0
  }

  #arm(): void {
    if (this.#armed) return
    this.#armed = true
    setImmediate(this.#flushLater)
  }
}
