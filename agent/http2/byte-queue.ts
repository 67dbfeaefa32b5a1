/**
 * Owns a queue of bytes that wait: for credit on the way out, for a consumer on the way in. Small
 * pieces are packed together, so that they keep no large buffers alive and cost what they weigh.
 */

const smallBytes = 2048
const packBytes = 8192

/** First in, first out. */
export class ByteQueue {
  #pieces: Buffer[] = []
  #first = 0
  #length = 0
  /** The buffer small pieces are packed into, the last in the queue; null when none is open. */
  #pack: Buffer | null = null
  #packStart = 0
  #packEnd = 0

  /** Bytes that wait. */
  get length(): number {
    return this.#length
  }

  /** Adds a piece; it must not change any more. */
  push(piece: Buffer): void {
    this.#length += piece.length
    if (piece.length >= smallBytes) {
      this.#sealPack()
      this.#pieces.push(piece)
      return
    }
    if (this.#pack !== null && packBytes - this.#packEnd < piece.length) this.#sealPack()
    if (this.#pack === null) {
      this.#pack = Buffer.allocUnsafeSlow(packBytes)
      this.#packStart = this.#packEnd = 0
    }
    this.#pack.set(piece, this.#packEnd)
    this.#packEnd += piece.length
  }

  /** Removes and answers the first piece, cut to `maxBytes`; at least one byte must wait. */
  shift(maxBytes: number): Buffer {
    if (this.#first === this.#pieces.length) this.#takePack()
    const piece = this.#pieces[this.#first] as Buffer
    if (piece.length > maxBytes) {
      this.#pieces[this.#first] = piece.subarray(maxBytes)
      this.#length -= maxBytes
      return piece.subarray(0, maxBytes)
    }
    this.#length -= piece.length
    this.#first++
    if (this.#first === this.#pieces.length || this.#first === 1024) {
      this.#pieces = this.#pieces.slice(this.#first)
      this.#first = 0
    }
    return piece
  }

  /** Forgets everything. */
  clear(): void {
    this.#pieces = []
    this.#first = this.#length = 0
    this.#pack = null
  }

  #sealPack(): void {
    this.#takePack()
    this.#pack = null
  }

  /** Moves what is packed to the pieces; the rest of the buffer serves on. */
  #takePack(): void {
    if (this.#pack === null || this.#packEnd === this.#packStart) return
    this.#pieces.push(this.#pack.subarray(this.#packStart, this.#packEnd))
    this.#packStart = this.#packEnd
  }
}
