/** Owns the making of hostile bytes from good ones, the same ones for the same seed. */

/** What to mutate, and what to put in. */
export interface MutatorSettings {
  readonly seed: number
  /** Good messages, latin-1. */
  readonly corpus: readonly string[]
  /** What is put in, latin-1. */
  readonly pieces: readonly string[]
}

/** See the header. */
export class Mutator {
  readonly #settings: MutatorSettings
  #state: number

  constructor(settings: MutatorSettings) {
    this.#settings = settings
    this.#state = settings.seed
  }

  /** The next bytes: a message with none to four changes. */
  next(): Buffer {
    let text = this.#pick(this.#settings.corpus)
    for (let changes = this.#below(5); changes > 0; changes--) text = this.#change(text)
    return Buffer.from(text, 'latin1')
  }

  /** The same bytes in pieces of any length. */
  split(bytes: Buffer): Buffer[] {
    const pieces: Buffer[] = []
    for (let at = 0; at < bytes.length;) {
      const end = at + 1 + this.#below(this.#below(2) === 0 ? 3 : bytes.length)
      pieces.push(bytes.subarray(at, end))
      at = end
    }
    return pieces
  }

  #change(text: string): string {
    const at = this.#below(text.length + 1)
    const end = Math.min(text.length, at + this.#below(12))
    switch (this.#below(7)) {
      case 0:
      case 1:
        return text.slice(0, at) + this.#pick(this.#settings.pieces) + text.slice(at)
      case 2:
        return this.#insertLine(text)
      case 3:
        return text.slice(0, at) + text.slice(end)
      case 4:
        return text.slice(0, end) + text.slice(at)
      case 5:
        return text.slice(0, at) + String.fromCharCode(this.#below(256)) + text.slice(at + 1)
      default:
        return text.slice(0, at) + this.#pick(this.#settings.pieces) + text.slice(end)
    }
  }

  /** Puts a piece where a line begins, where it does most harm. */
  #insertLine(text: string): string {
    const lines = text.split('\r\n')
    lines.splice(1 + this.#below(lines.length), 0, this.#pick(this.#settings.pieces).trimEnd())
    return lines.join('\r\n')
  }

  #pick(list: readonly string[]): string {
    return list[this.#below(list.length)] ?? ''
  }

  /** A whole number from 0 to before `limit` (mulberry32). */
  #below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit)
  }
}
