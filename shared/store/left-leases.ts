/**
 * Owns the leases of sessions that have ended. A write that such a session sent may come to the store
 * late, after the next one has put everything again: it would move a key back under the old lease, to
 * go with that a moment later. So each is given back as soon as nothing depends on it, and the store
 * refuses what still comes.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { KeyValue, LeaseId } from './key-value.ts'

/** What lapsed long ago needs not be given back. */
const mostKept = 32

/** See the header. */
export class LeftLeases {
  readonly #clock: Pick<Clock, 'elapsed'>
  /** Until when each is worth giving back, the oldest first. */
  readonly #leases = new Map<LeaseId, number>()

  constructor(parts: { readonly clock: Pick<Clock, 'elapsed'> }) {
    this.#clock = parts.clock
  }

  /** A session has ended without giving its lease back. A renewal may come late, too. */
  add(lease: LeaseId, settings: { readonly ttlMs: number }): void {
    this.#leases.set(lease, this.#clock.elapsed() + 2 * settings.ttlMs)
    const [oldest] = this.#leases.keys()
    if (this.#leases.size > mostKept && oldest !== undefined) this.#leases.delete(oldest)
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
    for (const [lease, until] of this.#leases) if (until < now) this.#leases.delete(lease)
    const wereThere = await Promise.all(
      [...this.#leases.keys()].map(async (lease) => {
        try {
          await store.revokeLease(lease, options)
        } catch (error) {
          const isGone = error instanceof MeshError && error.code === 'store-lease-not-found'
          if (isGone) this.#leases.delete(lease)
          return false
        }
        this.#leases.delete(lease)
        return true
      }),
    )
    return wereThere.includes(true)
  }
}
