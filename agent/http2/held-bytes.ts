/**
 * Owns the count of bytes that wait for slow consumers, across all connections of a process, so that
 * together they stay within one bound.
 */

/** See the header. */
export class HeldBytes {
  readonly #limitBytes: number
  #bytes = 0

  /** `limitBytes`: past it a stream that adds more is reset. */
  constructor(settings: { readonly limitBytes: number }) {
    this.#limitBytes = settings.limitBytes
  }

  /** Bytes that wait now. */
  get bytes(): number {
    return this.#bytes
  }

  /** Counts more (positive) or fewer (negative); false when there are too many. */
  add(bytes: number): boolean {
    this.#bytes += bytes
    return this.#bytes <= this.#limitBytes
  }
}
