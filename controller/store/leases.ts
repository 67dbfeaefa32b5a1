/**
 * Owns the deadlines of leases, in memory: they are kept by clients that renew them, and armed in
 * full when the store opens. Leases themselves are rows of `Mvcc`; what lapses is told, not deleted.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { StoredLease } from './mvcc.ts'

/** etcd's own resolution. */
const sweepMs = 500

interface Deadline {
  readonly ttlSeconds: number
  /** Monotonic ms. */
  expiresAt: number
  lapsed: boolean
}

/** See the header. */
export class Leases {
  readonly #clock: Clock
  readonly #onLapsed: (id: string) => void
  readonly #deadlines = new Map<string, Deadline>()
  readonly #sweeping: Timer
  #sweptAt: number

  constructor(
    parts: { readonly clock: Clock; readonly onLapsed: (id: string) => void },
    leases: readonly StoredLease[],
  ) {
    this.#clock = parts.clock
    this.#onLapsed = parts.onLapsed
    this.#sweptAt = parts.clock.elapsed()
    for (const lease of leases) this.arm(lease)
    this.#sweeping = parts.clock.every(sweepMs, () => this.#sweep())
  }

  get size(): number {
    return this.#deadlines.size
  }

  /** Leases that have not lapsed. */
  get ids(): readonly string[] {
    return [...this.#deadlines].flatMap(([id, { lapsed }]) => (lapsed ? [] : [id]))
  }

  /** Starts a lease's time anew, whether it is new or could not be ended. */
  arm(lease: StoredLease): void {
    const { ttlSeconds } = lease
    const expiresAt = this.#clock.elapsed() + ttlSeconds * 1000
    this.#deadlines.set(lease.id, { ttlSeconds, expiresAt, lapsed: false })
  }

  /** Renews a lease and answers its time in seconds; 0 when it is gone. */
  renew(id: string): number {
    const deadline = this.#deadlines.get(id)
    if (deadline === undefined || deadline.lapsed) return 0
    deadline.expiresAt = this.#clock.elapsed() + deadline.ttlSeconds * 1000
    return deadline.ttlSeconds
  }

  /** Whole seconds left, and granted; null when the lease is gone. */
  remaining(id: string): { readonly seconds: number; readonly ttlSeconds: number } | null {
    const deadline = this.#deadlines.get(id)
    if (deadline === undefined || deadline.lapsed) return null
    const left = Math.max(0, deadline.expiresAt - this.#clock.elapsed())
    return { seconds: Math.floor(left / 1000), ttlSeconds: deadline.ttlSeconds }
  }

  drop(id: string): void {
    this.#deadlines.delete(id)
  }

  stop(): void {
    this.#sweeping.stop()
  }

  /** After a pause of this process, clients get back the time in which nobody could hear them. */
  #sweep(): void {
    const now = this.#clock.elapsed()
    const paused = now - this.#sweptAt - sweepMs
    this.#sweptAt = now
    for (const [id, deadline] of this.#deadlines) {
      if (paused > sweepMs) deadline.expiresAt += paused
      if (deadline.lapsed || deadline.expiresAt > now) continue
      deadline.lapsed = true
      this.#onLapsed(id)
    }
  }
}
