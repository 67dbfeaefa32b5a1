import t from 'tap'
import type { Entry, StoreEvent } from '#shared/store/key-value.ts'
import { LiveView } from '#shared/store/view.ts'

const entry = (key: string, value: string, modRevision: number): Entry => ({
  key,
  value,
  modRevision,
  createRevision: modRevision,
  version: 1,
  lease: null,
})
const put = (key: string, value: string, revision: number): StoreEvent => ({
  kind: 'put',
  entry: entry(key, value, revision),
})
const remove = (key: string, modRevision: number): StoreEvent => ({
  kind: 'delete',
  key,
  modRevision,
})

t.test('LiveView takes a listing for the whole truth and says what is gone', async (t) => {
  const view = new LiveView()
  t.equal(view.revision, 0)
  view.replace({ revision: 5, entries: [entry('a', '1', 3), entry('b', '1', 5)] })
  const change = view.replace({ revision: 9, entries: [entry('b', '2', 7), entry('c', '1', 9)] })
  t.strictSame(change, { revision: 9, changedKeys: 'all', removed: new Map([['a', '1']]) })
  t.strictSame(
    new Map(view.entries),
    new Map([
      ['b', '2'],
      ['c', '1'],
    ]),
  )
})

t.test('LiveView applies a batch as one change', async (t) => {
  const view = new LiveView()
  view.replace({ revision: 5, entries: [entry('a', 'up', 3), entry('b', '1', 5)] })
  const change = view.apply([put('a', 'left', 6), put('c', '1', 7), remove('a', 8)])
  t.strictSame(change, {
    revision: 8,
    changedKeys: ['a', 'c'],
    removed: new Map([['a', 'left']]),
  })
  t.strictSame(
    new Map(view.entries),
    new Map([
      ['b', '1'],
      ['c', '1'],
    ]),
  )
  t.equal(view.revision, 8)
})

t.test('LiveView does not call a key removed that came back in the same batch', async (t) => {
  const view = new LiveView()
  view.replace({ revision: 5, entries: [entry('a', '1', 3)] })
  const change = view.apply([remove('a', 6), put('a', '2', 7)])
  t.strictSame(change, { revision: 7, changedKeys: ['a'], removed: new Map() })
})

t.test('LiveView skips what its listing already held', async (t) => {
  const view = new LiveView()
  view.replace({ revision: 5, entries: [entry('a', 'new', 5)] })
  t.equal(view.apply([put('a', 'old', 4), remove('a', 5)]), null)
  t.equal(view.entries.get('a'), 'new')
})
