/**
 * Owns the deadlines of all relays of a worker: one coarse sweep instead of a timer a request. A
 * deadline is met up to one sweep late, never early.
 */

import type { Timer } from '#shared/lifecycle/clock.ts'
import type { Clock } from '#agent/platform.ts'

/** Something with a deadline. */
export interface Watched {
  /** Monotonic milliseconds; Infinity for none. */
  readonly deadline: number
  /** The deadline has passed. */
  expired(): void
  /** Finish what is under way, then go. */
  drain(): void
}

const sweepMs = 500

/** The relays of a worker. */
export class RelayWatch {
  readonly #clock: Clock
  readonly #watched = new Set<Watched>()
  #timer: Timer | null = null
  #idle: (() => void) | null = null

  constructor(parts: { readonly clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Relays alive now. */
  get size(): number {
    return this.#watched.size
  }

  add(relay: Watched): void {
    this.#watched.add(relay)
    this.#timer ??= this.#clock.every(sweepMs, () => this.#sweep())
  }

  remove(relay: Watched): void {
    this.#watched.delete(relay)
    if (this.#watched.size > 0) return
    this.#timer?.stop()
    this.#timer = null
    this.#idle?.()
  }

  /** Asks every relay to finish; resolves when the last one is gone. */
  async drain(): Promise<void> {
    for (const relay of this.#watched) relay.drain()
    if (this.#watched.size > 0) await new Promise<void>((resolve) => (this.#idle = resolve))
  }

  #sweep(): void {
    const now = this.#clock.elapsed()
    for (const relay of this.#watched) if (relay.deadline <= now) relay.expired()
  }
}
