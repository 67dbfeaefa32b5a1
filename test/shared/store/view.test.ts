import t from 'tap'
import type { Entry, StoreEvent } from '#shared/store/key-value.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
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

t.test('LiveView forgets what is outside of a scope: it has not vanished', async (t) => {
  const view = new LiveView()
  const [orders, carts] = ['/mesh/v1/instances/orders/a/1', '/mesh/v1/instances/carts/a/1']
  const presence = '/mesh/v1/presence/a'
  view.replace({
    revision: 5,
    entries: [entry(orders, '1', 3), entry(carts, '1', 4), entry(presence, '1', 5)],
  })
  const services = new Set([must(parseServiceName('orders'))])
  const change = view.replace({ revision: 9, entries: [] }, { kind: 'services', services })
  t.strictSame(change, {
    revision: 9,
    changedKeys: 'all',
    removed: new Map([
      [orders, '1'],
      [presence, '1'],
    ]),
    forgotten: [carts],
  })
})

t.test('LiveView takes in and forgets what is below a prefix', async (t) => {
  const view = new LiveView()
  view.replace({ revision: 5, entries: [entry('a/1', '1', 3), entry('b/1', '1', 5)] })
  t.strictSame(view.extend({ revision: 7, entries: [entry('a/2', '1', 6)] }, 'a/'), {
    revision: 7,
    changedKeys: ['a/2'],
    removed: new Map([['a/1', '1']]),
  })
  // Another watch may be behind: what it brings is news all the same.
  t.strictSame(view.apply([put('b/2', '1', 6)], 5), {
    revision: 7,
    changedKeys: ['b/2'],
    removed: new Map(),
  })
  t.strictSame(view.forget('b/'), {
    revision: 7,
    changedKeys: [],
    removed: new Map(),
    forgotten: ['b/1', 'b/2'],
  })
  t.strictSame([...view.entries.keys()], ['a/2'])
})

t.test('LiveView skips what its listing already held', async (t) => {
  const view = new LiveView()
  view.replace({ revision: 5, entries: [entry('a', 'new', 5)] })
  t.equal(view.apply([put('a', 'old', 4), remove('a', 5)]), null)
  t.equal(view.entries.get('a'), 'new')
})
