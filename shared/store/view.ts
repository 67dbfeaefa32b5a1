/**
 * Owns the last known content of the watched prefix. It is changed in place, one listing or one
 * batch of events at a time, so that its cost grows with the changes only; it outlives sessions, and
 * nothing but the store's own word removes a key from it.
 */

import type { Listing, StoreEvent } from './key-value.ts'

/** The view as its readers see it; read it while handling a change, keep copies of what is kept. */
export interface StoreView {
  /** 0 before the first listing. */
  readonly revision: number
  readonly entries: ReadonlyMap<string, string>
}

/** What became different. */
export interface StoreChange {
  readonly revision: number
  /** `'all'` after a listing: anything may have changed. */
  readonly changedKeys: readonly string[] | 'all'
  /** Keys that are gone, with their last value before that: a farewell, if there was one. */
  readonly removed: ReadonlyMap<string, string>
}

/** A view and what a session does to it. */
export interface ViewKeeper extends StoreView {
  /** Takes a listing for the whole truth. */
  replace(listing: Listing): StoreChange
  /** Applies events; those the listing already held are skipped. Null: nothing was new. */
  apply(events: readonly StoreEvent[]): StoreChange | null
}

/** See the header. */
export class LiveView implements ViewKeeper {
  readonly #entries = new Map<string, string>()
  #revision = 0

  get revision(): number {
    return this.#revision
  }

  get entries(): ReadonlyMap<string, string> {
    return this.#entries
  }

  replace(listing: Listing): StoreChange {
    const removed = new Map(this.#entries)
    for (const entry of listing.entries) {
      removed.delete(entry.key)
      this.#entries.set(entry.key, entry.value)
    }
    for (const key of removed.keys()) this.#entries.delete(key)
    this.#revision = listing.revision
    return { revision: this.#revision, changedKeys: 'all', removed }
  }

  apply(events: readonly StoreEvent[]): StoreChange | null {
    const changed = new Set<string>()
    const removed = new Map<string, string>()
    let revision = this.#revision
    for (const event of events) {
      const at = event.kind === 'put' ? event.entry.modRevision : event.modRevision
      if (at <= this.#revision) continue
      revision = Math.max(revision, at)
      const key = event.kind === 'put' ? event.entry.key : event.key
      changed.add(key)
      if (event.kind === 'put') {
        this.#entries.set(key, event.entry.value)
        removed.delete(key)
      } else {
        const last = this.#entries.get(key)
        this.#entries.delete(key)
        if (last !== undefined) removed.set(key, last)
      }
    }
    if (changed.size === 0) return null
    this.#revision = revision
    return { revision, changedKeys: [...changed], removed }
  }
}
