/**
 * Owns the leases of sessions that have ended. The last one is gone on with where the next session will
 * see what still comes under it: nothing is put again. Of any other a write may come to the store late, after
 * everything was put again, and would move a key back under the old lease, to go with that a moment
 * later. So it is given back as soon as nothing depends on it, and the store refuses what still comes.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { CallOptions, KeyValue, LeaseId } from './key-value.ts'

/** What lapsed long ago needs not be given back. */
const mostKept = 32

interface LeftLease {
  /** Until then it is worth giving back. */
  readonly until: number
  /** See the header. */
  readonly canGoOn: boolean
}

/** See the header. */
export class LeftLeases {
  readonly #clock: Pick<Clock, 'elapsed'>
  /** The oldest first. */
  readonly #leases = new Map<LeaseId, LeftLease>()

  constructor(parts: { readonly clock: Pick<Clock, 'elapsed'> }) {
    this.#clock = parts.clock
  }

  /** A session has ended without giving its lease back. A renewal may come late, too. */
  add(lease: LeaseId, { ttlMs }: { readonly ttlMs: number }): void {
    this.#leases.delete(lease)
    this.#leases.set(lease, { until: this.#clock.elapsed() + 2 * ttlMs, canGoOn: true })
    const [oldest] = this.#leases.keys()
    if (this.#leases.size > mostKept && oldest !== undefined) this.#leases.delete(oldest)
  }

  /**
   * Renews the newest lease and answers it: `take` makes it the caller's. Null: there is none to go on
   * with, or it has lapsed. Rejects with what the store says otherwise.
   */
  async goOn(store: Pick<KeyValue, 'keepAlive'>, options: CallOptions): Promise<LeaseId | null> {
    const newest = [...this.#leases].at(-1)
    if (newest?.[1].canGoOn !== true) return null
    const [lease] = newest
    try {
      const { ttlMs } = await store.keepAlive(lease, options)
      this.#leases.set(lease, { ...newest[1], until: this.#clock.elapsed() + 2 * ttlMs })
    } catch (error) {
      if (isGone(error)) this.#leases.delete(lease)
      else if (error instanceof MeshError && error.code === 'store-denied') this.giveUp(lease)
      else throw error
      return null
    }
    return lease
  }

  /** Nobody is to go on with a lease. */
  giveUp(lease: LeaseId): void {
    const left = this.#leases.get(lease)
    if (left !== undefined) this.#leases.set(lease, { ...left, canGoOn: false })
  }

  /** Somebody goes on with a lease: it is not left any more. */
  take(lease: LeaseId): void {
    this.#leases.delete(lease)
  }

  /**
   * Gives all of them back, now that every own key is under a newer one, and answers whether one of them
   * was there still: a key that had come under it again went with it. Never rejects: what does not
   * succeed is left for the next time.
   */
  async giveBack(
    store: Pick<KeyValue, 'revokeLease'>,
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<boolean> {
    const now = this.#clock.elapsed()
    for (const [lease, { until }] of this.#leases) if (until < now) this.#leases.delete(lease)
    const wereThere = await Promise.all(
      [...this.#leases.keys()].map(async (lease) => {
        try {
          await store.revokeLease(lease, options)
        } catch (error) {
          if (isGone(error)) this.#leases.delete(lease)
          return false
        }
        this.#leases.delete(lease)
        return true
      }),
    )
    return wereThere.includes(true)
  }
}

function isGone(error: unknown): boolean {
  return error instanceof MeshError && error.code === 'store-lease-not-found'
}
