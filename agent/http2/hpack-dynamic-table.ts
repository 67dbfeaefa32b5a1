/**
 * Owns one HPACK dynamic table (RFC 7541 §2.3.2 and §4): first in, first out, bounded in bytes. It
 * knows nothing of the wire.
 */

import type { HeaderField } from './header-field.ts'
import { fieldBytes } from './header-field.ts'

/** See the header. The newest entry has age 0. */
export class DynamicTable {
  readonly #ring: (HeaderField | undefined)[]
  readonly #onEvicted: ((field: HeaderField, number: number) => void) | null
  #limitBytes: number
  #bytes = 0
  #length = 0
  #inserted = 0

  constructor(
    parts: {
      /** Told which entry went, and its number counted from the first ever inserted. */
      readonly onEvicted?: (field: HeaderField, number: number) => void
    },
    settings: { readonly maxBytes: number },
  ) {
    this.#onEvicted = parts.onEvicted ?? null
    this.#limitBytes = settings.maxBytes
    this.#ring = Array.from({ length: Math.floor(settings.maxBytes / 32) + 1 })
  }

  /** Entries in it. */
  get length(): number {
    return this.#length
  }

  /** Entries ever inserted; the number of the next one. */
  get inserted(): number {
    return this.#inserted
  }

  /** What its entries count for, bytes. */
  get bytes(): number {
    return this.#bytes
  }

  /** The entry of an age, if there is one. */
  at(age: number): HeaderField | undefined {
    return age < this.#length
      ? this.#ring[(this.#inserted - 1 - age) % this.#ring.length]
      : undefined
  }

  /** Adds an entry, evicting the oldest; one larger than the table empties it (RFC 7541 §4.4). */
  insert(field: HeaderField): void {
    const bytes = fieldBytes(field)
    this.#evictTo(this.#limitBytes - bytes)
    if (bytes > this.#limitBytes) return
    this.#ring[this.#inserted++ % this.#ring.length] = field
    this.#length++
    this.#bytes += bytes
  }

  /** Sets how many bytes may be used, up to `maxBytes`. */
  resize(limitBytes: number): void {
    this.#limitBytes = limitBytes
    this.#evictTo(limitBytes)
  }

  #evictTo(bytes: number): void {
    while (this.#length > 0 && this.#bytes > bytes) {
      const number = this.#inserted - this.#length
      const slot = number % this.#ring.length
      const field = this.#ring[slot] as HeaderField
      this.#ring[slot] = undefined
      this.#length--
      this.#bytes -= fieldBytes(field)
      this.#onEvicted?.(field, number)
    }
  }
}
