/**
 * Owns the guard against mass disappearance: of what vanished from the store unannounced, what is
 * kept a while because the store, not the hosts, may be what failed. Pure; times are arguments,
 * monotonic milliseconds.
 */

import { decodeInstance } from '#shared/schema/records.ts'
import { parseMeshKey } from '#shared/store/keys.ts'

/**
 * How long a vanished key is kept to see whether others follow, milliseconds: leases that lapse
 * together do so over a second or two. Its host was silent for a whole lease before.
 */
const momentMs = 2000
/** How long keys are waited for when many are missing: a lease's life and a slow return. */
const stormMs = 20_000

/** One change of the store's view. */
export interface Vanishing {
  /** Keys that are gone, with their last value. */
  readonly removed: ReadonlyMap<string, string>
  /** Whether it is a listing after an absence, when anything may be missing. */
  readonly isListing: boolean
  /** How many hosts are present, those of kept keys among them. */
  readonly hosts: number
}

/** See the header. */
export class VanishingGuard {
  /** When each kept key is due. */
  readonly #kept = new Map<string, number>()

  /** Milliseconds until the first kept key is due; null while none is kept. */
  dueInMs(now: number): number | null {
    let due: number | null = null
    for (const at of this.#kept.values()) due = Math.min(due ?? at, at)
    return due === null ? null : Math.max(0, due - now)
  }

  /** The key is there again. */
  returned(key: string): void {
    this.#kept.delete(key)
  }

  /** Takes in what vanished. Answers the keys to drop at once and whether it is a storm. */
  vanish(
    { removed, isListing, hosts }: Vanishing,
    now: number,
  ): { readonly dropped: readonly string[]; readonly isStorm: boolean } {
    const dropped: string[] = []
    for (const [key, value] of removed) {
      if (isFarewell(value)) dropped.push(key)
      else this.#kept.set(key, now + (isListing ? stormMs : momentMs))
    }
    const silent = new Set([...this.#kept.keys()].map(hostOf)).size
    const isStorm = dropped.length < removed.size && silent >= 2 && silent * 2 >= hosts
    if (isStorm) for (const key of this.#kept.keys()) this.#kept.set(key, now + stormMs)
    return { dropped, isStorm }
  }

  /** The keys nobody brought back in time. */
  expire(now: number): readonly string[] {
    const due = [...this.#kept].filter(([, at]) => at <= now).map(([key]) => key)
    for (const key of due) this.#kept.delete(key)
    return due
  }
}

function isFarewell(value: string): boolean {
  const record = decodeInstance(value)
  return record.ok && record.value.state === 'left'
}

function hostOf(key: string): string {
  const at = parseMeshKey(key)
  return at.ok && 'host' in at.value ? at.value.host : key
}
