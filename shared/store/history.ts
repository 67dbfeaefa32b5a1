/**
 * Owns whether a store's history is still the one that a view was made of: not where the store was
 * restored, replaced or has lost what it had acknowledged, and not to be told where it was compacted.
 * The witnesses are what was seen last: an entry as it was at its own revision, whose key, value, lease,
 * version and both revisions come together again in no other history but by an accident that changes
 * nothing, and the deletion after it.
 */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { CallOptions, Entry, KeyValue, Listing, StoreEvent } from './key-value.ts'

/** What was seen last of a store. */
export interface Seen {
  /** The entry that was written last. */
  readonly put: Entry
  /** What was deleted last, if that was later. */
  readonly deletion: { readonly key: string; readonly modRevision: number } | null
}

/** What a store says of a revision of which it has no history any more, or not yet again. */
const gone: ReadonlySet<string> = new Set(['store-compacted', 'store-future-revision'])

/** What a listing shows; null of an empty one. */
export function seenIn({ entries }: Listing): Seen | null {
  let newest: Entry | null = null
  for (const entry of entries) {
    if (newest === null || entry.modRevision > newest.modRevision) newest = entry
  }
  return newest === null ? null : { put: newest, deletion: null }
}

/** The same after one more change. */
export function seenAfter(seen: Seen | null, event: StoreEvent): Seen | null {
  if (event.kind === 'put') return { put: event.entry, deletion: null }
  return seen === null ? null : { ...seen, deletion: event }
}

/** The revision up to which everything was seen. */
export function revisionOf({ put, deletion }: Seen): number {
  return deletion?.modRevision ?? put.modRevision
}

/**
 * The revision of a store in whose history is what was seen; null of any other. Rejects with what the
 * store says otherwise.
 */
export async function revisionSince(
  { put, deletion }: Seen,
  store: Pick<KeyValue, 'get'>,
  options: CallOptions,
): Promise<number | null> {
  const at = (key: string, revision: number): ReturnType<KeyValue['get']> =>
    store.get(key, { ...options, revision })
  try {
    const [found, before, after] = await Promise.all([
      at(put.key, put.modRevision),
      deletion === null ? null : at(deletion.key, deletion.modRevision - 1),
      deletion === null ? null : at(deletion.key, deletion.modRevision),
    ])
    const isDeleted =
      deletion === null || (before !== null && before.entry !== null && after?.entry === null)
    return found.entry !== null && isSame(found.entry, put) && isDeleted ? found.revision : null
  } catch (error) {
    if (error instanceof MeshError && gone.has(error.code)) return null
    throw error
  }
}

function isSame(one: Entry, other: Entry): boolean {
  return (
    one.value === other.value &&
    one.lease === other.lease &&
    one.version === other.version &&
    one.createRevision === other.createRevision &&
    one.modRevision === other.modRevision
  )
}
