/**
 * Owns the numbering of client-initiated streams (RFC 9113 §5.1.1) and the memory of how recent ones
 * ended, on which the right answer to a late frame depends. Constant memory. Streams of a server do
 * not exist here: push is switched off.
 */

/** Where a stream stands that is not open. */
export type Standing =
  /** Nobody opened it yet. */
  | 'idle'
  /** Its number was passed over, so it can never be opened. */
  | 'skipped'
  /** Both sides finished it. */
  | 'finished'
  | 'reset-here'
  | 'reset-there'
  /** It ended, too long ago to know how. */
  | 'forgotten'

const remembered = 4096
const open = 0
const standings = [
  'forgotten',
  'skipped',
  'finished',
  'reset-here',
  'reset-there',
] as const satisfies readonly Standing[]

/** Largest stream number (RFC 9113 §5.1.1). */
const lastId = 0x7fffffff

/** See the header. */
export class StreamIds {
  readonly #ends = new Uint8Array(remembered)
  #highest: number

  /** `highest`: the highest number already used. */
  constructor(settings: { readonly highest: number } = { highest: -1 }) {
    this.#highest = settings.highest
  }

  /** The highest stream opened so far; 0 before the first. */
  get highest(): number {
    return Math.max(0, this.#highest)
  }

  /** The next number to open, or null when a connection has used them all up. */
  next(): number | null {
    if (this.#highest >= lastId) return null
    this.open(this.#highest + 2)
    return this.#highest
  }

  /** A stream was opened: an odd number above all before. */
  open(id: number): void {
    const firstSkipped = Math.max(this.#highest + 2, id - 2 * remembered)
    for (let skipped = firstSkipped; skipped < id; skipped += 2) {
      this.#ends[slot(skipped)] = standings.indexOf('skipped')
    }
    this.#ends[slot(id)] = open
    this.#highest = id
  }

  /** A stream ended. */
  close(id: number, how: 'finished' | 'reset-here' | 'reset-there'): void {
    if (this.#remembers(id)) this.#ends[slot(id)] = standings.indexOf(how)
  }

  /** How a stream that is not open stands. */
  standing(id: number): Standing {
    if (id > this.#highest || (id & 1) === 0) return 'idle'
    return this.#remembers(id) ? (standings[this.#ends[slot(id)] ?? 0] ?? 'forgotten') : 'forgotten'
  }

  #remembers(id: number): boolean {
    return this.#highest - id < 2 * remembered
  }
}

function slot(id: number): number {
  return (id >>> 1) & (remembered - 1)
}
