/**
 * Owns the last known content of the watched prefix. It is changed in place, one listing or one
 * batch of events at a time, so that its cost grows with the changes only; it outlives sessions, and
 * nothing but the store's own word removes a key from it.
 */

import type { Listing, StoreEvent } from './key-value.ts'
import { isInScope, wholeMesh, type Scope } from './scope.ts'

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
  /** Whether any of it happened while the store was away; see `wasMissed`. Absent: no. */
  readonly wasMissed?: boolean
  /** Keys that are not followed any more: they may well be in the store. Absent: none. */
  readonly forgotten?: readonly string[]
}

/** Whether a change tells of what happened while the store was away, as every listing may. */
export function wasMissed(change: StoreChange): boolean {
  return change.wasMissed === true || change.changedKeys === 'all'
}

/** A view and what a session does to it. */
export interface ViewKeeper extends StoreView {
  /** Takes a listing for the whole truth of a scope; what is outside of it is forgotten. */
  replace(listing: Listing, scope?: Scope): StoreChange
  /** Takes a listing for the whole truth below a prefix. */
  extend(listing: Listing, prefix: string): StoreChange
  /**
   * Applies events; those up to revision `held` are skipped, because a listing had them. Null: nothing
   * was new.
   */
  apply(events: readonly StoreEvent[], held?: number): StoreChange | null
  /** Forgets what is below a prefix. */
  forget(prefix: string): StoreChange
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

  replace(listing: Listing, scope: Scope = wholeMesh): StoreChange {
    const removed = new Map(this.#entries)
    for (const entry of listing.entries) {
      removed.delete(entry.key)
      this.#entries.set(entry.key, entry.value)
    }
    const forgotten: string[] = []
    for (const key of removed.keys()) {
      this.#entries.delete(key)
      if (!isInScope(scope, key)) forgotten.push(key)
    }
    for (const key of forgotten) removed.delete(key)
    this.#revision = listing.revision
    const change = { revision: this.#revision, changedKeys: 'all', removed } as const
    return forgotten.length === 0 ? change : { ...change, forgotten }
  }

  extend(listing: Listing, prefix: string): StoreChange {
    const removed = this.#below(prefix)
    for (const entry of listing.entries) {
      removed.delete(entry.key)
      this.#entries.set(entry.key, entry.value)
    }
    for (const key of removed.keys()) this.#entries.delete(key)
    this.#revision = Math.max(this.#revision, listing.revision)
    const changedKeys = listing.entries.map(({ key }) => key)
    return { revision: this.#revision, changedKeys, removed }
  }

  forget(prefix: string): StoreChange {
    const forgotten = [...this.#below(prefix).keys()]
    for (const key of forgotten) this.#entries.delete(key)
    return { revision: this.#revision, changedKeys: [], removed: new Map(), forgotten }
  }

  #below(prefix: string): Map<string, string> {
    return new Map([...this.#entries].filter(([key]) => key.startsWith(prefix)))
  }

  apply(events: readonly StoreEvent[], held = this.#revision): StoreChange | null {
    const changed = new Set<string>()
    const removed = new Map<string, string>()
    let revision = this.#revision
    for (const event of events) {
      const at = event.kind === 'put' ? event.entry.modRevision : event.modRevision
      if (at <= held) continue
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
