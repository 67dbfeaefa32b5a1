/**
 * Owns the deadlines of all relays of a worker: one coarse sweep instead of a timer a request, and
 * no look at the clock to set one. A deadline is met up to two sweeps late, never early.
 */

import type { Timer } from '#shared/lifecycle/clock.ts'
import type { Clock } from '#agent/platform.ts'

/** Something with a deadline. */
export interface Watched {
  /** As `deadlineIn` says; Infinity for none. */
  readonly deadline: number
  /** The deadline has passed. */
  expired(): void
  /** Finish what is under way, then go; what waits for a request may wait `idleMs` more. */
  drain(idleMs: number): void
  /** Policy has changed: end what it no longer allows. */
  reconsider(): void
}

const sweepMs = 500

/** The relays of a worker. */
export class RelayWatch {
  readonly #clock: Clock
  readonly #watched = new Set<Watched>()
  #timer: Timer | null = null
  /** Monotonic milliseconds at the last sweep. */
  #sweptAt = 0
  /** What the wall clock was ahead of the monotonic one then. */
  #ahead = 0
  /** How long idle relays may wait once all are asked to finish; null before. */
  #drainIdleMs: number | null = null
  #idle: (() => void)[] = []

  constructor(parts: { readonly clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Relays alive now. */
  get size(): number {
    return this.#watched.size
  }

  /** The deadline that is `ms` away. Infinity stays what it is. */
  deadlineIn(ms: number): number {
    if (this.#timer === null) this.#sweptAt = this.#clock.elapsed()
    return this.#sweptAt + sweepMs + ms
  }

  /** The wall clock's time at a monotonic one, for relays that are watched over. */
  wallTimeAt(elapsed: number): number {
    return Math.round(this.#ahead + elapsed)
  }

  /** Watches over a relay; when all are asked to finish, so is this one. */
  add(relay: Watched): void {
    this.#watched.add(relay)
    if (this.#timer === null) {
      this.#look()
      this.#timer = this.#clock.every(sweepMs, () => this.#sweep())
    }
    if (this.#drainIdleMs !== null) relay.drain(this.#drainIdleMs)
  }

  /** Lets go of a relay; twice does no harm. */
  remove(relay: Watched): void {
    this.#watched.delete(relay)
    if (this.#watched.size > 0) return
    this.#timer?.stop()
    this.#timer = null
    for (const told of this.#idle) told()
    this.#idle = []
  }

  /**
   * Asks every relay, also those to come, to finish; resolves when the last one is gone. Kept
   * connections without a request under way wait `idleMs` for one.
   *
   * @default 1000
   */
  async drain({ idleMs = 1000 }: { readonly idleMs?: number } = {}): Promise<void> {
    this.#drainIdleMs = idleMs
    for (const relay of this.#watched) relay.drain(idleMs)
    if (this.#watched.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  /** Has policy asked again for every relay. */
  reconsider(): void {
    for (const relay of this.#watched) relay.reconsider()
  }

  #look(): void {
    this.#sweptAt = this.#clock.elapsed()
    this.#ahead = this.#clock.now() - this.#sweptAt
  }

  #sweep(): void {
    this.#look()
    for (const relay of this.#watched) if (relay.deadline <= this.#sweptAt) relay.expired()
  }
}
