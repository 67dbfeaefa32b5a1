/**
 * Owns the flow-control window of what a peer sends us on one stream (RFC 9113 §5.2): the rule by
 * which credit is given back, and how large the window is. It starts small and doubles while the
 * consumer keeps up, and shrinks when it does not, so that slow consumers hold little memory and
 * fast ones are never held up. Pure.
 */

/** Smallest size; the protocol's own default, so that a peer may assume it. */
const smallestBytes = 65_535

/** Settings of a window. */
export interface ReceiveWindowSettings {
  /** The window a peer starts with, as we announced it: 65535 or more. */
  readonly initialBytes: number
  /** The size a window may grow to. */
  readonly maxBytes: number
}

/** See the header. */
export class ReceiveWindow {
  readonly #maxBytes: number
  #size: number
  /** What the peer may still send. */
  #open: number
  /** What the consumer took and the peer was not yet given back. */
  #owed = 0
  #strained = false

  constructor(settings: ReceiveWindowSettings) {
    this.#size = settings.initialBytes
    this.#open = settings.initialBytes
    this.#maxBytes = settings.maxBytes
  }

  /** The size it aims at, bytes. */
  get sizeBytes(): number {
    return this.#size
  }

  /** Bytes arrive. False when the peer had no credit for them. */
  arrive(bytes: number): boolean {
    this.#open -= bytes
    return this.#open >= 0
  }

  /** The consumer asked for a pause: it is slower than the peer. */
  strain(): void {
    this.#strained = true
  }

  /** The consumer took bytes. */
  take(bytes: number): void {
    this.#owed += bytes
  }

  /** The increment to send now, or 0 while it is not worth a frame. */
  grant(): number {
    const owed = this.#owed
    if (owed < this.#size >>> 1) return 0
    const size = this.#strained
      ? Math.max(smallestBytes, this.#size - owed)
      : Math.min(this.#maxBytes, this.#size * 2)
    const increment = size - this.#size + owed
    this.#size = size
    this.#open += increment
    this.#owed = 0
    this.#strained = false
    return increment
  }
}
