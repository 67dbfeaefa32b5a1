/** When the history of a store is taken for the one that was seen. */

import t from 'tap'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { revisionOf, revisionSince, seenAfter, seenIn, type Seen } from '#shared/store/history.ts'
import type { Entry, LeaseId } from '#shared/store/key-value.ts'

const seen: Entry = {
  key: '/mesh/v1/presence/a',
  value: 'a1',
  createRevision: 4,
  modRevision: 7,
  version: 2,
  lease: '9' as LeaseId,
}

const put: Seen = { put: seen, deletion: null }
const deletion: Seen = { put: seen, deletion: { key: '/mesh/v1/presence/c', modRevision: 9 } }

/** What is made of a store at revision 12 that has these entries by key and revision, or fails. */
async function judge(
  what: Seen,
  found: Readonly<Record<string, Entry>> | MeshError,
): Promise<number | null> {
  const store = {
    async get(key: string, options: { readonly revision?: number } = {}) {
      if (found instanceof MeshError) throw found
      return { revision: 12, entry: found[`${key}@${options.revision}`] ?? null }
    },
  }
  return revisionSince(what, store, {})
}
const at7 = `${seen.key}@7`

t.test('an entry that stands as it was seen is a witness of the history up to it', async (t) => {
  t.equal(await judge(put, { [at7]: { ...seen } }), 12)
})

t.test('any difference tells of another history', async (t) => {
  t.equal(await judge(put, {}), null)
  const others: readonly Entry[] = [
    { ...seen, value: 'a2' },
    { ...seen, createRevision: 5 },
    { ...seen, modRevision: 6 },
    { ...seen, version: 3 },
    { ...seen, lease: '8' as LeaseId },
    { ...seen, lease: null },
  ]
  for (const other of others)
    t.equal(await judge(put, { [at7]: other }), null, JSON.stringify(other))
})

t.test('a history that cannot be told any more, or not yet, is another', async (t) => {
  for (const code of ['store-compacted', 'store-future-revision']) {
    t.equal(await judge(put, new MeshError('gone', { code })), null)
  }
  await t.rejects(judge(put, new MeshError('no answer', { code: 'store-timeout' })), {
    code: 'store-timeout',
  })
})

t.test('a deletion seen after the last entry has to have happened, too', async (t) => {
  const gone = { ...seen, key: '/mesh/v1/presence/c' }
  const before = `${gone.key}@8`
  t.equal(await judge(deletion, { [at7]: seen, [before]: gone }), 12)
  t.equal(await judge(deletion, { [at7]: seen, [before]: gone, [`${gone.key}@9`]: gone }), null)
  t.equal(await judge(deletion, { [at7]: seen }), null, 'it was not there')
  t.equal(revisionOf(deletion), 9)
  t.equal(revisionOf(put), 7)
})

t.test(
  'what was seen last is the newest entry of a listing, and what is told after it',
  async (t) => {
    const older = { ...seen, key: '/mesh/v1/presence/b', modRevision: 6 }
    t.strictSame(seenIn({ revision: 12, entries: [older, seen] }), put)
    t.strictSame(seenIn({ revision: 12, entries: [seen, older] }), put)
    t.equal(seenIn({ revision: 12, entries: [] }), null)
    const removed = { kind: 'delete', key: '/mesh/v1/presence/c', modRevision: 9 } as const
    t.equal(seenAfter(null, removed), null)
    t.match(seenAfter(put, removed), deletion)
    t.strictSame(seenAfter(seenAfter(put, removed), { kind: 'put', entry: seen }), put)
  },
)
