/**
 * Owns whether a store's history is still the one that a view was made of: not where the store was
 * restored, replaced or has lost what it had acknowledged, and not to be told where it was compacted.
 * An entry as it was at its own revision is the witness: key, value, lease, version and both revisions
 * come together again in no other history but by an accident that changes nothing.
 */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { CallOptions, Entry, KeyValue, Listing } from './key-value.ts'

/** What a store says of a revision of which it has no history any more, or not yet again. */
const gone: ReadonlySet<string> = new Set(['store-compacted', 'store-future-revision'])

/** The entry of a listing that was written last; null of an empty one. */
export function newestOf({ entries }: Listing): Entry | null {
  let newest: Entry | null = null
  for (const entry of entries) {
    if (newest === null || entry.modRevision > newest.modRevision) newest = entry
  }
  return newest
}

/**
 * The revision of a store that has an entry in its history as it was seen; null of any other. Rejects
 * with what the store says otherwise.
 */
export async function revisionSince(
  seen: Entry,
  store: Pick<KeyValue, 'get'>,
  options: CallOptions,
): Promise<number | null> {
  const { key, modRevision } = seen
  try {
    const { entry, revision } = await store.get(key, { ...options, revision: modRevision })
    return entry !== null && isSame(entry, seen) ? revision : null
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
