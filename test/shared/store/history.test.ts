/** When the history of a store is taken for the one that was seen. */

import t from 'tap'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { newestOf, revisionSince } from '#shared/store/history.ts'
import type { Entry, LeaseId } from '#shared/store/key-value.ts'

const seen: Entry = {
  key: '/mesh/v1/presence/a',
  value: 'a1',
  createRevision: 4,
  modRevision: 7,
  version: 2,
  lease: '9' as LeaseId,
}

/** What is made of a store at revision 12 that has this entry as of revision 7, or fails. */
async function judge(found: Entry | null | MeshError): Promise<number | null> {
  const store = {
    async get(key: string, options: { readonly revision?: number } = {}) {
      t.strictSame([key, options.revision], [seen.key, seen.modRevision])
      if (found instanceof MeshError) throw found
      return { revision: 12, entry: found }
    },
  }
  return revisionSince(seen, store, {})
}

t.test('an entry that stands as it was seen is a witness of the history up to it', async (t) => {
  t.equal(await judge({ ...seen }), 12)
})

t.test('any difference tells of another history', async (t) => {
  const others: readonly (Entry | null)[] = [
    null,
    { ...seen, value: 'a2' },
    { ...seen, createRevision: 5 },
    { ...seen, modRevision: 6 },
    { ...seen, version: 3 },
    { ...seen, lease: '8' as LeaseId },
    { ...seen, lease: null },
  ]
  for (const other of others) t.equal(await judge(other), null, JSON.stringify(other))
})

t.test('a history that cannot be told any more, or not yet, is another', async (t) => {
  for (const code of ['store-compacted', 'store-future-revision']) {
    t.equal(await judge(new MeshError('gone', { code })), null)
  }
  await t.rejects(judge(new MeshError('no answer', { code: 'store-timeout' })), {
    code: 'store-timeout',
  })
})

t.test('the newest entry of a listing is the one written last', async (t) => {
  const older = { ...seen, key: '/mesh/v1/presence/b', modRevision: 6 }
  t.equal(newestOf({ revision: 12, entries: [older, seen] }), seen)
  t.equal(newestOf({ revision: 12, entries: [seen, older] }), seen)
  t.equal(newestOf({ revision: 12, entries: [] }), null)
})
