/** Holds discovery on demand to its word, with a store that the test plays and a clock that it turns. */

import t from 'tap'
import { OnDemand, type Lookup } from '#agent/discovery/on-demand.ts'
import { ServicesInUse } from '#agent/discovery/services-in-use.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseServiceName, type ServiceName } from '#shared/model/names.ts'
import { instancesOfService, presencePrefix } from '#shared/store/keys.ts'
import type { LinkState } from '#shared/store/link.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const service = (name: string): ServiceName => must(parseServiceName(name))
const [orders, carts, mail] = [service('orders'), service('carts'), service('mail')]
const logger = createLogger({ name: 'test', level: 'silent' })

/** A store with one instance of each of some services. */
class PlayedStore {
  readonly there = new Set<ServiceName>()
  readonly entries = new Map<string, string>()
  readonly followed = new Set<string>()
  readonly asked: string[] = []
  readonly renewals: string[] = []
  /** Null: at once. */
  held: Promise<void> | null = null
  failure: MeshError | null = null

  /** When it went away, milliseconds since the epoch; null: it is there. */
  awaySince: number | null = null

  get state(): LinkState {
    return this.awaySince === null
      ? { kind: 'connected', since: 0, revision: 1 }
      : { kind: 'away', since: this.awaySince, reason: 'no answer' }
  }

  get view(): { readonly revision: number; readonly entries: ReadonlyMap<string, string> } {
    return { revision: 1, entries: this.entries }
  }

  async follow(prefix: string, { evenEmpty }: { readonly evenEmpty: boolean }): Promise<boolean> {
    this.asked.push(prefix)
    await this.held
    if (this.failure !== null) throw this.failure
    const isThere = [...this.there].some((one) => instancesOfService(one) === prefix)
    if (isThere) this.entries.set(`${prefix}far/1`, '')
    if (isThere || evenEmpty) this.followed.add(prefix)
    return isThere
  }

  unfollow(prefix: string): void {
    this.followed.delete(prefix)
    this.entries.delete(`${prefix}far/1`)
  }

  async count(): Promise<number> {
    return this.there.size
  }

  renew(reason: string): void {
    this.renewals.push(reason)
  }

  /** As a session that begins. */
  begin(onDemand: OnDemand): void {
    this.entries.clear()
    this.followed.clear()
    this.followed.add(presencePrefix)
    const scope = onDemand.choose(this.there.size)
    for (const one of scope.kind === 'whole' ? this.there : scope.services) {
      if (scope.kind === 'services') this.followed.add(instancesOfService(one))
      if (this.there.has(one)) this.entries.set(`${instancesOfService(one)}far/1`, '')
    }
    onDemand.connected()
  }
}

function makeOnDemand(wholeMesh: number, inUse?: ServicesInUse) {
  const clock = new FakeClock()
  const store = new PlayedStore()
  const random = { fraction: () => 0.5, bytes: (size: number) => Buffer.alloc(size) }
  const onDemand = new OnDemand(
    { clock, random, logger, store: () => store, ...(inUse === undefined ? {} : { inUse }) },
    { wholeMesh, lookupMs: 100 },
  )
  return { clock, store, onDemand }
}

const many = (count: number): ServiceName[] =>
  Array.from({ length: count }, (_, i) => service(`s-${i}`))

t.test('what is in use when the mesh grows too large is followed from then on', async (t) => {
  const { clock, store, onDemand } = makeOnDemand(10)
  for (const one of [orders, carts, ...many(5)]) store.there.add(one)
  store.begin(onDemand)
  onDemand.use([orders])
  onDemand.pin(new Set([mail]))
  onDemand.changed()
  await clock.advance(1000)
  t.notOk(onDemand.isOn)

  for (const one of many(9)) {
    store.there.add(one)
    store.entries.set(`${instancesOfService(one)}far/1`, '')
  }
  onDemand.changed()
  await clock.advance(1000)
  t.ok(onDemand.isOn)
  t.equal(store.renewals.length, 1)
  t.same(onDemand.scope, { kind: 'services', services: new Set([mail, orders]) })
  store.begin(onDemand)
  onDemand.changed()
  await clock.advance(1000)
  t.equal(store.renewals.length, 1, 'once')
})

t.test('the whole mesh is followed again well below the limit only', async (t) => {
  const { store, onDemand } = makeOnDemand(10)
  for (const one of many(11)) store.there.add(one)
  store.begin(onDemand)
  t.ok(onDemand.isOn)
  for (const [size, isOn] of [
    [9, true],
    [8, false],
    [10, false],
    [11, true],
  ] as const) {
    store.there.clear()
    for (const one of many(size)) store.there.add(one)
    store.begin(onDemand)
    t.equal(onDemand.isOn, isOn, `${size} instances`)
  }
})

t.test('a service is looked for once, and followed when it is there', async (t) => {
  const { store, onDemand } = makeOnDemand(0)
  store.there.add(orders)
  store.begin(onDemand)
  const found = await Promise.all([onDemand.lookUp(orders), onDemand.lookUp(orders)])
  t.same(found, ['found', 'found'])
  t.same(store.asked, [instancesOfService(orders)])
  t.ok(store.followed.has(instancesOfService(orders)))
  t.equal(await onDemand.lookUp(orders), 'found', 'it is followed')
  t.equal(store.asked.length, 1)
  t.same(onDemand.counts, new Map([['found', 3]]))
})

t.test('what is not there is not asked for again for a moment', async (t) => {
  const { clock, store, onDemand } = makeOnDemand(0)
  store.there.add(orders)
  store.begin(onDemand)
  t.equal(await onDemand.lookUp(carts), 'unknown')
  t.equal(await onDemand.lookUp(carts), 'unknown')
  t.equal(store.asked.length, 1)
  t.notOk(store.followed.has(instancesOfService(carts)))
  store.there.add(carts)
  await clock.advance(3000)
  t.equal(await onDemand.lookUp(carts), 'found')
})

t.test('a store that is away, fails or is slow costs a bounded time', async (t) => {
  const { clock, store, onDemand } = makeOnDemand(0)
  store.there.add(orders)
  store.begin(onDemand)
  store.failure = new MeshError('no answer', { code: 'store-timeout', retry: true })
  t.equal(await onDemand.lookUp(orders), 'away')
  store.failure = null
  const answer = Promise.withResolvers<void>()
  store.held = answer.promise
  const slow = onDemand.lookUp(orders)
  await clock.advance(100)
  t.equal(await slow, 'away')
  answer.resolve()
  await clock.advance(0)
  t.ok(store.followed.has(instancesOfService(orders)), 'the next one finds it')
  store.held = null
  store.awaySince = clock.now() - 10_000
  t.equal(await onDemand.lookUp(carts), 'away', 'at once')
  t.equal(store.asked.length, 2, 'a store that is away is not asked')

  // As while a session with a renewed certificate begins.
  store.awaySince = clock.now()
  store.there.add(carts)
  const waits = onDemand.lookUp(carts)
  await clock.advance(50)
  store.awaySince = null
  onDemand.connected()
  t.equal(await waits, 'found')
  store.awaySince = clock.now()
  const inVain = onDemand.lookUp(mail)
  await clock.advance(100)
  t.equal(await inVain, 'away')
})

t.test('a flood of names is bounded, and room is for what is used', async (t) => {
  const inUse = new ServicesInUse({ most: 1 })
  const { store, onDemand } = makeOnDemand(0, inUse)
  store.there.add(orders).add(carts)
  store.begin(onDemand)
  const answer = Promise.withResolvers<void>()
  store.held = answer.promise
  const looking: Promise<Lookup>[] = many(100).map((one) => onDemand.lookUp(one))
  answer.resolve()
  const results = await Promise.all(looking)
  t.equal(results.filter((one) => one === 'overloaded').length, 36)
  t.equal(store.asked.length, 64)
  t.equal(await onDemand.lookUp(orders), 'found')
  t.equal(await onDemand.lookUp(carts), 'overloaded', 'orders was used just now')
  t.notOk(store.followed.has(instancesOfService(carts)))
})

t.test('what manifests name is followed at once, also while nobody serves it', async (t) => {
  const { clock, store, onDemand } = makeOnDemand(0)
  store.there.add(orders)
  store.begin(onDemand)
  onDemand.pin(new Set([mail]))
  await clock.advance(0)
  t.ok(store.followed.has(instancesOfService(mail)))
  t.equal(await onDemand.lookUp(mail), 'unknown')
  onDemand.pin(new Set())
  t.notOk(store.followed.has(instancesOfService(mail)), 'no longer than that')
})

t.test(
  'what the disk had is in use, and what is not used for a day is followed no more',
  async (t) => {
    const inUse = new ServicesInUse()
    const { clock, store, onDemand } = makeOnDemand(0, inUse)
    store.there.add(orders)
    onDemand.restore(true, [[orders, clock.now()]])
    store.begin(onDemand)
    onDemand.start()
    t.teardown(() => onDemand.stop())
    t.ok(store.followed.has(instancesOfService(orders)))
    await clock.advance(86_400_000 - 120_000)
    t.ok(store.followed.has(instancesOfService(orders)))
    await clock.advance(240_000)
    t.notOk(store.followed.has(instancesOfService(orders)))
    t.equal(onDemand.inUse, 0)
  },
)
