/**
 * Owns a bounded memory of what was looked up of late, in two halves: when the newer one is full it
 * becomes the older, and the older is forgotten. What is asked for again lives on. Pure.
 */

/** See the header. */
export class RecentMap<Value> {
  readonly #half: number
  #newer = new Map<string, Value>()
  #older = new Map<string, Value>()

  /** Holds at most `most` entries. */
  constructor(most: number) {
    this.#half = most >> 1
  }

  /** How many entries there are. */
  get size(): number {
    return this.#newer.size + this.#older.size
  }

  get(key: string): Value | undefined {
    const found = this.#newer.get(key)
    if (found !== undefined) return found
    const old = this.#older.get(key)
    if (old !== undefined) {
      this.#older.delete(key)
      this.set(key, old)
    }
    return old
  }

  set(key: string, value: Value): void {
    if (this.#newer.size >= this.#half) {
      this.#older = this.#newer
      this.#newer = new Map()
    }
    this.#newer.set(key, value)
  }
}
