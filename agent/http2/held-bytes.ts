/**
 * Owns the count of bytes that wait for slow consumers, across all connections of a process, so that
 * together they stay within one bound. Most are counted as they come and go; a socket does not tell
 * when the kernel takes its last bytes, so it is asked again before anybody is refused.
 */

/** Holds bytes whose going it does not hear of. */
export interface Holder {
  /** Counts again what waits. */
  recount(): void
}

/** See the header. */
export class HeldBytes {
  readonly #limitBytes: number
  readonly #holders = new Set<Holder>()
  #bytes = 0

  /** `limitBytes`: past it whoever adds more is refused, and ends what it held the bytes for. */
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
    if (this.#bytes <= this.#limitBytes) return true
    if (bytes > 0) for (const holder of this.#holders) holder.recount()
    return this.#bytes <= this.#limitBytes
  }

  /** Of a holder that counted `before` bytes and now counts `now`; false when there are too many. */
  change(holder: Holder, before: number, now: number): boolean {
    if (now === 0) this.#holders.delete(holder)
    else if (before === 0) this.#holders.add(holder)
    return this.add(now - before)
  }
}
