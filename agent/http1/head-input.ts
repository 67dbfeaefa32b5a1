/**
 * Owns the bytes of a connection that nobody has taken yet, and finds where the next head in them
 * ends. A head may come in any number of pieces: each byte is looked at once and copied a bounded
 * number of times.
 */

import { fault, tooLarge, type HeadFault, type HeadLimits } from './head-fault.ts'

const emptyLine = Buffer.from('\r\n\r\n')
const cr = 0x0d
const lf = 0x0a
const firstStore = 1024
/** Most bytes of a piece that are made text in the hope that a head ends in them. */
const glance = 2048
/** Most bytes that are kept with a head they do not belong to. */
const keptBeyond = 256

/** See the header. */
export class HeadInput {
  readonly #limits: HeadLimits
  #bytes: Buffer | null = null
  #from = 0
  #end = 0
  /** Up to where no head ends. */
  #seen = 0
  /** Whether there may be written behind `#end`. */
  #own = false

  constructor(limits: HeadLimits) {
    this.#limits = limits
  }

  /** Bytes that wait. */
  get size(): number {
    return this.#end - this.#from
  }

  /** The first byte that waits; undefined when none does. */
  get first(): number | undefined {
    return this.#bytes?.[this.#from]
  }

  /** Takes over a piece. */
  push(piece: Buffer): void {
    const { size } = this
    if (this.#bytes === null || size === 0) {
      this.#set(piece, 0, false)
      this.#end = piece.length
      return
    }
    if (!this.#own || this.#end + piece.length > this.#bytes.length) {
      const store = Buffer.allocUnsafe(Math.max(firstStore, 2 * (size + piece.length)))
      this.#bytes.copy(store, 0, this.#from, this.#end)
      this.#set(store, this.#seen - this.#from, true)
      this.#end = size
    }
    piece.copy(this.#bytes, this.#end)
    this.#end += piece.length
  }

  /**
   * Takes the next head: latin-1, with the CRLF of each line and without the empty line that ends
   * it. Null while it is not whole; a fault when it is too large or holds a line that does not end
   * with CRLF (RFC 9112 §2.2).
   */
  takeHead(): string | HeadFault | null {
    const bytes = this.#bytes
    if (bytes === null) return null
    const { maxBytes } = this.#limits
    if (this.#seen === this.#from) {
      // A head mostly comes whole, and looking for its end in text costs half.
      const text = bytes.toString('latin1', this.#from, Math.min(this.#end, this.#from + glance))
      const end = text.indexOf('\r\n\r\n')
      if (end >= 0 && end <= maxBytes) {
        const from = this.#from
        this.#advance(from + end + 4)
        // A slice keeps the whole text alive, and a head may be kept long.
        return text.length - end <= keptBeyond
          ? text.slice(0, end + 2)
          : bytes.toString('latin1', from, from + end + 2)
      }
    }
    const filled = this.#own ? bytes.subarray(0, this.#end) : bytes
    const found = filled.indexOf(emptyLine, Math.max(this.#from, this.#seen - 3))
    if (found >= 0) {
      if (found - this.#from > maxBytes) return tooLarge(maxBytes)
      const text = bytes.toString('latin1', this.#from, found + 2)
      this.#advance(found + 4)
      return text
    }
    for (let at = this.#seen; at < this.#end; at++) {
      if (bytes[at] === lf && (at === this.#from || bytes[at - 1] !== cr)) {
        return fault('bad-request', 'a line of the head ends with a bare LF')
      }
    }
    this.#seen = this.#end
    return this.size > maxBytes ? tooLarge(maxBytes) : null
  }

  /** Passes over an empty line before a request (RFC 9112 §2.2); false while it is cut in two. */
  skipEmptyLine(): boolean {
    if (this.first !== cr) return true
    if (this.size < 2) return false
    if (this.#bytes?.[this.#from + 1] === lf) this.#advance(this.#from + 2)
    return true
  }

  /** Takes everything that waits; null when nothing does. */
  takeAll(): Buffer | null {
    const bytes = this.#bytes
    const all = bytes === null ? null : bytes.subarray(this.#from, this.#end)
    this.clear()
    return all
  }

  /** Throws away what waits. */
  clear(): void {
    this.#bytes = null
    this.#from = 0
    this.#end = 0
    this.#seen = 0
  }

  #set(bytes: Buffer, seen: number, own: boolean): void {
    this.#bytes = bytes
    this.#from = 0
    this.#seen = seen
    this.#own = own
  }

  #advance(to: number): void {
    if (to === this.#end) this.clear()
    else {
      this.#from = to
      this.#seen = to
    }
  }
}
