/**
 * Owns the bytes of a head that came in pieces: gathered at a cost that grows with their number, not
 * with its square, and searched for the end once. It does not interpret them.
 */

import { cr, lf } from './bytes.ts'

/** What is known of a head in pieces. */
export type Gathered =
  | 'partial'
  /** Its end has come, or a byte that no head holds: reading it will tell. */
  | 'ready'
  | 'too-large'

const firstBytes = 1024

/** See the header. */
export class HeadInput {
  readonly #maxBytes: number
  #bytes: Buffer | null = null
  #used = 0

  constructor(settings: { readonly maxBytes: number }) {
    this.#maxBytes = settings.maxBytes
  }

  /** Whether nothing waits. */
  get isEmpty(): boolean {
    return this.#bytes === null
  }

  /** Adds bytes; past a head's end they may hold more than it. */
  add(piece: Buffer): Gathered {
    const searched = this.#used
    const bytes = this.#room(piece.length)
    bytes.set(piece, this.#used)
    this.#used += piece.length
    for (let at = bytes.indexOf(lf, searched); at >= 0 && at < this.#used;) {
      if (at === 0 || bytes[at - 1] !== cr) return 'ready'
      if (at >= 3 && bytes[at - 2] === lf && bytes[at - 3] === cr) return 'ready'
      at = bytes.indexOf(lf, at + 1)
    }
    if (bytes.subarray(searched, this.#used).includes(0)) return 'ready'
    return this.#used > this.#maxBytes ? 'too-large' : 'partial'
  }

  /** Hands over what was gathered. */
  take(): Buffer {
    const bytes = (this.#bytes as Buffer).subarray(0, this.#used)
    this.clear()
    return bytes
  }

  clear(): void {
    this.#bytes = null
    this.#used = 0
  }

  #room(more: number): Buffer {
    const needed = this.#used + more
    if (this.#bytes !== null && this.#bytes.length >= needed) return this.#bytes
    const size = Math.max(firstBytes, needed, (this.#bytes?.length ?? 0) * 2)
    const bytes = Buffer.allocUnsafeSlow(size)
    if (this.#bytes !== null) bytes.set(this.#bytes.subarray(0, this.#used))
    this.#bytes = bytes
    return bytes
  }
}
