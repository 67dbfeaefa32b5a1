/** Owns the pace of every retry loop: exponential with full jitter on the upper half. */

import type { Random } from './clock.ts'

/** Settings of a backoff. */
export interface BackoffSettings {
  /** Longest first wait. */
  readonly firstMs: number
  /** Longest wait of all. */
  readonly lastMs: number
}

/** Counts failures and answers how long to wait; `reset` after a success. */
export class Backoff {
  readonly #random: Random
  readonly #settings: BackoffSettings
  #failures = 0

  constructor(parts: { readonly random: Random }, settings: BackoffSettings) {
    this.#random = parts.random
    this.#settings = settings
  }

  /** Milliseconds to wait before the next try: between half and all of the current step. */
  nextMs(): number {
    const step = Math.min(this.#settings.lastMs, this.#settings.firstMs * 2 ** this.#failures)
    this.#failures = Math.min(this.#failures + 1, 30)
    return step * (0.5 + this.#random.fraction() / 2)
  }

  /** The last try worked. */
  reset(): void {
    this.#failures = 0
  }
}
