/**
 * Owns the memory of the last header section of a kind that was judged: who opens streams in a hurry says
 * the same each time, and in HPACK that is the very same fields. Pure; it judges nothing itself.
 */

import type { HeaderField } from './header-field.ts'
import type { Judged } from './header-rules.ts'

/** A section that says the same each time is short; a long one is not worth the memory. */
const mostFields = 8

/** Judges sections, the same one only once. */
export class KnownSection<Head> {
  readonly #judge: (fields: readonly HeaderField[]) => Judged<Head>
  #fields: readonly HeaderField[] = []
  #judged: Judged<Head> | null = null

  constructor(judge: (fields: readonly HeaderField[]) => Judged<Head>) {
    this.#judge = judge
  }

  /** What the rules say of a section; of one that is well-formed the same head as long as it is the same. */
  judge(fields: readonly HeaderField[]): Judged<Head> {
    if (this.#judged !== null && isSame(fields, this.#fields)) return this.#judged
    const judged = this.#judge(fields)
    const isKept = judged.ok && fields.length <= mostFields
    this.#judged = isKept ? judged : null
    this.#fields = isKept ? fields : []
    return judged
  }
}

/** Fields of the tables are the same objects each time; any other is new, whatever it says. */
function isSame(one: readonly HeaderField[], other: readonly HeaderField[]): boolean {
  if (one.length !== other.length) return false
  for (let at = 0; at < one.length; at++) if (one[at] !== other[at]) return false
  return true
}
