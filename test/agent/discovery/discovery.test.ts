import t from 'tap'
import { DiskCache, type CachedView } from '#agent/discovery/disk-cache.ts'
import { Discovery, type DiscoveryParts, type LocalFacts } from '#agent/discovery/discovery.ts'
import { systemRandom } from '#shared/lifecycle/clock.ts'
import { must, parseHostName, parseTrustDomain } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import type { LinkState } from '#shared/store/link.ts'
import type { StoreChange } from '#shared/store/view.ts'
import { LiveView } from '#shared/store/view.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { entryOf, instanceOf, presenceOf } from '#test/support/mesh-records.ts'

const host = must(parseHostName('self'))
const trustDomain = must(parseTrustDomain('mesh.internal'))
const nothing: LocalFacts = { presence: null, offered: [], local: [], listeners: [], policies: {} }

type Records = readonly Parameters<typeof entryOf>[0][]

/** The real view of a link, fed by hand. */
class HandFedStore {
  readonly view = new LiveView()
  state: LinkState = { kind: 'away', since: 0, reason: 'not started' }
  #listener: ((change: StoreChange) => void) | null = null
  #onState: ((state: LinkState) => void) | null = null
  #revision = 0

  onChange(listener: (change: StoreChange) => void): () => void {
    this.#listener = listener
    return () => {
      this.#listener = null
    }
  }

  onState(listener: (state: LinkState) => void): () => void {
    this.#onState = listener
    return () => {
      this.#onState = null
    }
  }

  connect(): void {
    this.#become({ kind: 'connected', since: 0, revision: this.#revision })
  }

  goAway(): void {
    this.#become({ kind: 'away', since: 0, reason: 'refused' })
  }

  #become(state: LinkState): void {
    this.state = state
    this.#onState?.(state)
  }

  list(...records: Records): void {
    this.#revision += 1
    const modRevision = this.#revision
    const entries = records.map((record) => {
      const [key, value] = entryOf(record)
      return { key, value, modRevision, createRevision: modRevision, version: 1, lease: null }
    })
    this.#listener?.(this.view.replace({ revision: modRevision, entries }))
  }

  put(...records: Records): void {
    for (const record of records) this.putText(...entryOf(record))
  }

  putText(key: string, value: string): void {
    this.#revision += 1
    const modRevision = this.#revision
    const entry = { key, value, modRevision, createRevision: modRevision, version: 1, lease: null }
    this.#tell(this.view.apply([{ kind: 'put', entry }]))
  }

  remove(...keys: readonly string[]): void {
    this.#tell(this.#removed(keys))
  }

  /** What the watch of a session tells that goes on from the one before. */
  removeWhileAway(...keys: readonly string[]): void {
    const change = this.#removed(keys)
    this.#tell(change === null ? null : { ...change, wasMissed: true })
  }

  #removed(keys: readonly string[]): StoreChange | null {
    this.#revision += 1
    const modRevision = this.#revision
    return this.view.apply(keys.map((key) => ({ kind: 'delete', key, modRevision })))
  }

  #tell(change: StoreChange | null): void {
    if (change !== null) this.#listener?.(change)
  }
}

/** Hosts that answer when they are asked; the others are silent. */
const answering = new Set<string>()

function askOn(clock: FakeClock): DiscoveryParts['ask'] {
  return (view, _service, done) => {
    const timer = clock.after(5, () => done(answering.has(view.name) ? 'proven' : 'silent'))
    return () => timer.stop()
  }
}

async function discovering(kept: CachedView | null = null) {
  const clock = new FakeClock()
  const { logger, lines } = logLines()
  const store = new HandFedStore()
  const saved: CachedView[] = []
  const cache = {
    load: async () =>
      kept === null
        ? ({ kind: 'none', reason: 'there is none' } as const)
        : ({ kind: 'loaded', view: kept } as const),
    save: async (view: CachedView) => void saved.push(view),
  }
  const parts = { clock, random: systemRandom, logger, ask: askOn(clock), store, cache }
  const discovery = new Discovery(parts, { host, trustDomain })
  const snapshots: Snapshot[] = []
  discovery.onChange((snapshot) => snapshots.push(snapshot))
  await discovery.start()
  const places = (): string =>
    Object.values(discovery.snapshot.services)
      .flatMap(({ name, instances }) => instances.map((one) => `${name}@${one.host}`))
      .sort()
      .join(' ')
  return { clock, lines, store, saved, discovery, snapshots, places }
}

t.test(
  'the first snapshot is there when start resolves, frozen, with this host alone',
  async (t) => {
    const { snapshots, discovery } = await discovering()
    t.strictSame(snapshots, [
      {
        revision: 0,
        sequence: 1,
        trustDomain,
        host,
        services: {},
        hosts: {},
        local: [],
        listeners: [],
        policies: {},
      },
    ])
    t.ok(Object.isFrozen(discovery.snapshot))
    t.equal(discovery.source, 'none')
  },
)

t.test('changes that come together make one snapshot', async (t) => {
  const { clock, store, discovery, snapshots, places } = await discovering()
  store.list(presenceOf('a'), instanceOf('orders', 'a'))
  store.put(presenceOf('b'))
  store.put(instanceOf('orders', 'b'))
  discovery.setLocal({ ...nothing, listeners: [] })
  await clock.advance(10)
  t.equal(snapshots.length, 2)
  t.equal(places(), 'orders@a orders@b')
  t.match(discovery.snapshot, { sequence: 2, revision: 3 })
  t.equal(discovery.source, 'store')
})

t.test('the larger the mesh, the fewer snapshots a storm of changes makes', async (t) => {
  const { clock, store, snapshots } = await discovering()
  const many = Array.from({ length: 4999 }, (_, n) => instanceOf(`s${n}`, 'a'))
  await clock.advance(1000)
  store.list(presenceOf('a'), ...many)
  await clock.advance(10)
  t.equal(snapshots.length, 2, 'the first after a quiet time is soon there')
  for (let n = 0; n < 10; n++) {
    store.put(instanceOf(`s${n}`, 'a', { weight: 7 }))
    await clock.advance(10)
  }
  t.equal(snapshots.length, 4, 'then one for each 50 ms')
  await clock.advance(1000)
  store.put(instanceOf('s0', 'a', { weight: 8 }))
  await clock.advance(10)
  t.equal(snapshots.length, 5)
})

t.test('what changes nothing makes no snapshot', async (t) => {
  const { clock, store, snapshots } = await discovering()
  store.list(presenceOf('a'), instanceOf('orders', 'a'))
  await clock.advance(10)
  store.put(instanceOf('orders', 'a'))
  store.putText('/mesh/v1/later/kind', 'x')
  await clock.advance(10)
  t.equal(snapshots.length, 2)
})

t.test('a snapshot shares what did not change with the one before', async (t) => {
  const { clock, store, discovery } = await discovering()
  store.list(presenceOf('a'), instanceOf('orders', 'a'), instanceOf('users', 'a'))
  await clock.advance(10)
  const before = discovery.snapshot
  store.put(instanceOf('orders', 'a', { weight: 1 }))
  await clock.advance(10)
  t.equal(discovery.snapshot.services['users'], before.services['users'])
  t.not(discovery.snapshot.services['orders'], before.services['orders'])
  t.equal(discovery.snapshot.hosts, before.hosts)
})

t.test('this host’s own instances are there without any store', async (t) => {
  const { clock, discovery, places } = await discovering()
  discovery.setLocal({
    ...nothing,
    presence: presenceOf('self'),
    offered: [instanceOf('orders', 'self')],
  })
  await clock.advance(10)
  t.equal(places(), 'orders@self')
  t.match(discovery.snapshot.hosts, { self: { address: '10.0.0.1' } })
})

t.test('a bad record is rejected alone, logged once, and the last good one stays', async (t) => {
  const { clock, store, lines, places, discovery } = await discovering()
  const [key] = entryOf(instanceOf('orders', 'a'))
  store.list(presenceOf('a'), instanceOf('orders', 'a'), instanceOf('users', 'a'))
  store.putText(key, '{"port": "x"}')
  store.put(instanceOf('users', 'a', { weight: 3 }))
  store.putText(key, '{"port": "x"}')
  await clock.advance(10)
  t.equal(places(), 'orders@a users@a')
  t.equal(discovery.snapshot.services['users']?.instances[0]?.weight, 3)
  t.match(
    lines.filter(({ level }) => level === 'warn'),
    [{ key, problem: /instance record/ }],
  )
  t.equal(lines.filter(({ level }) => level === 'warn').length, 1)
})

t.test('the view stands while the store is away, and the storm after it passes', async (t) => {
  const { clock, store, places, snapshots } = await discovering()
  store.list(presenceOf('a'), presenceOf('b'), instanceOf('orders', 'a'), instanceOf('orders', 'b'))
  await clock.advance(10)
  store.list()
  await clock.advance(19_000)
  t.equal(places(), 'orders@a orders@b')
  t.equal(snapshots.length, 2)
  store.put(presenceOf('b'), instanceOf('orders', 'b'))
  await clock.advance(1010)
  t.equal(places(), 'orders@b', 'who did not come back is dropped in the end')
})

t.test('what vanished while the store was away is waited for as after a listing', async (t) => {
  const { clock, store, places } = await discovering()
  const names = ['a', 'b', 'c', 'd', 'e']
  store.list(...names.flatMap((name) => [presenceOf(name), instanceOf('orders', name)]))
  store.removeWhileAway('/mesh/v1/presence/b', '/mesh/v1/instances/orders/b/1')
  await clock.advance(19_000)
  t.equal(places(), 'orders@a orders@b orders@c orders@d orders@e')
  await clock.advance(1010)
  t.equal(places(), 'orders@a orders@c orders@d orders@e')
})

t.test('a host that fell silent is dropped after a moment, one that left at once', async (t) => {
  const { clock, store, places } = await discovering()
  store.list(
    ...['a', 'b', 'c', 'd', 'e'].flatMap((name) => [presenceOf(name), instanceOf('orders', name)]),
  )
  store.put(instanceOf('orders', 'a', { state: 'left' }))
  store.remove('/mesh/v1/instances/orders/a/1')
  await clock.advance(10)
  t.equal(places(), 'orders@b orders@c orders@d orders@e')
  store.remove('/mesh/v1/presence/b', '/mesh/v1/instances/orders/b/1')
  await clock.advance(1990)
  t.equal(places(), 'orders@b orders@c orders@d orders@e')
  await clock.advance(20)
  t.equal(places(), 'orders@c orders@d orders@e')
  t.equal(clock.pending, 0)
})

t.test(
  'the disk stands in until the first listing, and what that lacks is gone soon',
  async (t) => {
    const records = [presenceOf('a'), instanceOf('orders', 'a'), instanceOf('users', 'a')]
    const kept = {
      revision: 42,
      savedAtMs: 0,
      entries: new Map([...records.map(entryOf), ['/mesh/v1/bad', '{']]),
    }
    const { clock, store, discovery, places } = await discovering(kept)
    t.equal(places(), 'orders@a users@a')
    t.match(discovery, { source: 'disk', snapshot: { revision: 42, sequence: 1 } })
    store.list(presenceOf('a'), instanceOf('orders', 'a'))
    await clock.advance(10)
    t.equal(discovery.source, 'store')
    t.equal(places(), 'orders@a users@a')
    await clock.advance(2000)
    t.equal(places(), 'orders@a')
  },
)

t.test('a host the store has lost sight of is kept for as long as it answers', async (t) => {
  const { clock, store, discovery, places } = await discovering()
  store.list(
    ...['a', 'b', 'c', 'd', 'e'].flatMap((name) => [presenceOf(name), instanceOf('orders', name)]),
  )
  answering.add('b')
  t.teardown(() => answering.clear())
  store.remove('/mesh/v1/presence/b', '/mesh/v1/instances/orders/b/1')
  store.remove('/mesh/v1/presence/c', '/mesh/v1/instances/orders/c/1')
  await clock.advance(60_000)
  t.equal(places(), 'orders@a orders@b orders@d orders@e')
  t.equal(discovery.hostsKept.length, 1)
  answering.delete('b')
  await clock.advance(5000)
  t.equal(places(), 'orders@a orders@d orders@e')
  t.same(discovery.hostsKept, [])
  t.equal(clock.pending, 0)
})

t.test('a host that nobody calls is forgotten without being asked', async (t) => {
  const { clock, store, discovery } = await discovering()
  store.list(presenceOf('a'), instanceOf('orders', 'a'), presenceOf('b'), presenceOf('c'))
  await clock.advance(10)
  t.same(Object.keys(discovery.snapshot.hosts).sort(), ['a', 'b', 'c'])
  store.remove('/mesh/v1/presence/b')
  await clock.advance(5000)
  t.same(Object.keys(discovery.snapshot.hosts).sort(), ['a', 'c'])
  t.equal(clock.pending, 0, 'and not looked for any more')
})

t.test('an empty store that answers first removes nobody who is there', async (t) => {
  const records = ['a', 'b'].flatMap((name) => [presenceOf(name), instanceOf('orders', name)])
  const kept = { revision: 42, savedAtMs: 0, entries: new Map(records.map(entryOf)) }
  const { clock, store, places } = await discovering(kept)
  answering.add('a')
  t.teardown(() => answering.clear())
  store.list()
  await clock.advance(60_000)
  t.equal(places(), 'orders@a')
})

t.test('the view is kept on the disk, soon but not with every change', async (t) => {
  const { clock, store, saved, discovery } = await discovering()
  store.list(presenceOf('a'), instanceOf('orders', 'a'))
  await clock.advance(10)
  t.equal(saved.length, 1, 'at once after a quiet time')
  for (let weight = 1; weight <= 9; weight += 1) {
    store.put(instanceOf('orders', 'a', { weight }))
    await clock.advance(100)
  }
  t.equal(saved.length, 1)
  await clock.advance(100)
  t.equal(saved.length, 2)
  t.strictSame(
    [...(saved[1]?.entries ?? [])],
    [presenceOf('a'), instanceOf('orders', 'a', { weight: 9 })].map(entryOf),
  )
  store.put(instanceOf('users', 'a'))
  await discovery.stop()
  t.equal(saved.length, 3, 'stop writes what has not been written')
  t.equal(clock.pending, 0)
})

t.test('a view is as old as the word of the store, also after a restart', async (t) => {
  const hour = 3_600_000
  const { clock, store, saved, discovery } = await discovering()
  t.equal(discovery.vouchedAtMs, 0, 'nobody has vouched yet')
  store.list(presenceOf('a'))
  store.connect()
  await clock.advance(hour)
  t.equal(
    discovery.vouchedAtMs,
    clock.now(),
    'a session that is up vouches for what does not change',
  )
  const behindMs = clock.now() - (saved.at(-1)?.savedAtMs ?? 0)
  t.ok(behindMs <= 60_000, 'and the disk knows, for a control process that is killed')
  store.goAway()
  const wentMs = clock.now()
  discovery.setLocal({ ...nothing, offered: [instanceOf('orders', 'self')] })
  await clock.advance(hour)
  t.equal(discovery.vouchedAtMs, wentMs, 'what this host adds by itself makes no view younger')
  await discovery.stop()
  t.equal(clock.pending, 0)
  const again = await discovering(saved.at(-1))
  t.equal(again.discovery.source, 'disk')
  t.equal(again.discovery.vouchedAtMs, wentMs)
})

t.test('what the store vouched for until the very end is kept so', async (t) => {
  const { clock, store, saved, discovery } = await discovering()
  store.list(presenceOf('a'))
  store.connect()
  await clock.advance(30_000)
  await discovery.stop()
  t.equal(saved.at(-1)?.savedAtMs, clock.now())
  t.equal(clock.pending, 0)
})

t.test('a disk that cannot be written is logged and stops nothing', async (t) => {
  const clock = new FakeClock()
  const { logger, lines } = logLines()
  const store = new HandFedStore()
  const cache = new DiskCache({ stateDirectory: '/dev/null/none', host, trustDomain })
  const parts = { clock, random: systemRandom, logger, ask: askOn(clock), store, cache }
  const discovery = new Discovery(parts, { host, trustDomain })
  await discovery.start()
  store.list(presenceOf('a'), instanceOf('orders', 'a'))
  await clock.advance(2000)
  await discovery.stop()
  t.match(
    lines.filter(({ level }) => level === 'error'),
    [{ problem: /ENOTDIR/ }],
  )
  t.match(discovery.snapshot.services, { orders: { instances: [{ host: 'a' }] } })
})
