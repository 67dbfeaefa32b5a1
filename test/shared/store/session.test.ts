/** How long a link waits for a store, and when it takes one for gone; by a store that a test plays. */

import t from 'tap'
import { sleep } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { createLogger } from '#shared/logging/logger.ts'
import type { LeaseId } from '#shared/store/key-value.ts'
import { StoreLink } from '#shared/store/link.ts'
import type { ScopeChooser } from '#shared/store/scope.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const leaseTtlMs = 15_000
const late = new MeshError('no answer', { code: 'store-timeout', retry: true })
const away = new MeshError('no connection', { code: 'store-unavailable', retry: true })

/** A link and the store it asks, whose answers are set by hand. */
function playedLink(settings: { readonly scope?: ScopeChooser } = {}) {
  const clock = new FakeClock()
  const store = {
    isThere: true,
    /** The next renewals fail so. */
    failures: [] as MeshError[],
    renewals: 0,
    renewalTakesMs: 0,
    /** How long each listing was waited for. */
    patience: [] as (number | undefined)[],
    isHeard: true,
    /** No write is answered. */
    isLosing: false,
    /** The watch of this prefix tells nothing. */
    behind: '',
    instances: 0,
    /** The keys that were put, in their order. */
    puts: [] as string[],
  }
  const link = new StoreLink(
    {
      ...settings,
      clock,
      random: { fraction: () => 0.5, bytes: (size) => Buffer.alloc(size) },
      logger: createLogger({ name: 'test', level: 'silent' }),
      connect: async () => ({
        get: async () => ({ revision: 1, entry: null }),
        list: async () => ({ revision: 1, entries: [] }),
        async listAll(_prefixes, options = {}) {
          store.patience.push(options.timeoutMs)
          if (!store.isThere) throw away
          return { revision: 1, entries: [] }
        },
        async count() {
          if (!store.isThere) throw away
          return store.instances
        },
        watch: (prefix, _from, sink) => ({
          requestProgress: () => {
            if (store.isHeard && prefix !== store.behind) sink.onProgress()
          },
          cancel: () => {},
        }),
        grantLease: async (ttlMs) => ({ lease: '1' as LeaseId, ttlMs }),
        async keepAlive() {
          store.renewals += 1
          if (store.renewalTakesMs > 0) await sleep(clock, store.renewalTakesMs)
          const failure = store.failures.shift()
          if (failure !== undefined) throw failure
          return { ttlMs: leaseTtlMs }
        },
        async transact({ success }) {
          if (store.isLosing) throw late
          for (const one of success) if (one.kind === 'put') store.puts.push(one.key)
          return { revision: 1, succeeded: true, results: [] }
        },
        revokeLease: async () => {},
        close: () => {},
      }),
    },
    { prefix: '/mesh/v1/', leaseTtlMs },
  )
  const losses: string[] = []
  link.onState((state) => {
    if (state.kind === 'away') losses.push(state.reason)
  })
  link.start()
  return { clock, store, link, losses }
}

t.test(
  'a renewal that is late is asked again of a store that is heard, for half a lease',
  async (t) => {
    const { clock, store, link, losses } = playedLink()
    await clock.advance(0)
    store.failures.push(late, late)
    await clock.advance(5000)
    t.equal(store.renewals, 3)
    t.strictSame(losses, [])
    store.renewalTakesMs = 3000
    store.failures.push(late, late, late)
    await clock.advance(15_000)
    t.strictSame(losses, ['no answer'])
    t.equal(store.renewals, 7, 'three, and one by the next session')
    store.renewalTakesMs = 0
    const stopped = link.stop({ withdraw: false })
    await clock.advance(3000)
    await stopped
  },
)

t.test('a store that says nothing at all is gone with the first late renewal', async (t) => {
  const { clock, store, link, losses } = playedLink()
  await clock.advance(0)
  store.isHeard = false
  store.failures.push(late)
  await clock.advance(4600)
  t.equal(store.renewals, 1)
  t.strictSame(losses, ['no answer'])
  await link.stop({ withdraw: false })
})

t.test('what may have gone with an earlier lease, unseen, is put again', async (t) => {
  const { clock, store, link } = playedLink()
  const [watched, unwatched] = ['/mesh/v1/presence/a', '/mesh-reports/v1/trust/a']
  link.publish(new Map([watched, unwatched].map((key) => [key, 'mine'])))
  await clock.advance(0)
  t.strictSame(store.puts, [watched, unwatched])
  store.isLosing = true
  link.publish(new Map([watched, unwatched].map((key) => [key, 'mine again'])))
  await clock.advance(100)
  t.equal(link.state.kind, 'away')
  store.isLosing = false
  await clock.advance(20_000)
  t.equal(link.state.kind, 'connected')
  t.strictSame(store.puts.slice(2), [watched, unwatched, unwatched])
  await link.stop({ withdraw: false })
})

t.test('a link that was whole gives up a silent store soon, a new one is patient', async (t) => {
  const { clock, store, link } = playedLink()
  store.isThere = false
  await clock.advance(60_000)
  t.strictSame(store.patience.slice(0, 4), [5000, 5000, 10_000, 10_000])
  store.isThere = true
  await clock.advance(20_000)
  t.equal(link.state.kind, 'connected')
  const { length } = store.patience
  store.failures.push(away)
  store.isThere = false
  await clock.advance(20_000)
  t.strictSame(store.patience.slice(length, length + 4), [1500, 1500, 3000, 3000])
  await link.stop({ withdraw: false })
})

t.test(
  'a link that follows a part of a large mesh is as patient as one that follows all',
  async (t) => {
    const scope: ScopeChooser = { choose: () => ({ kind: 'services', services: new Set() }) }
    const { clock, store, link } = playedLink({ scope })
    store.instances = 10_000
    await clock.advance(1000)
    t.equal(link.state.kind, 'connected')
    store.failures.push(away)
    store.isThere = false
    const { length } = store.patience
    await clock.advance(5000)
    t.equal(link.state.kind, 'away')
    store.isThere = true
    await clock.advance(60_000)
    t.equal(link.state.kind, 'connected')
    t.equal(store.patience[length], 3500)
    await link.stop({ withdraw: false })
  },
)

t.test('a watch that tells nothing while others do is borne for a minute', async (t) => {
  const scope: ScopeChooser = { choose: () => ({ kind: 'services', services: new Set() }) }
  const { clock, store, link, losses } = playedLink({ scope })
  await clock.advance(0)
  store.behind = '/mesh/v1/presence/'
  await clock.advance(50_000)
  t.strictSame(losses, [])
  store.behind = ''
  await clock.advance(10_000)
  store.behind = '/mesh/v1/presence/'
  await clock.advance(50_000)
  t.strictSame(losses, [], 'it has told something meanwhile')
  await clock.advance(20_000)
  t.strictSame(losses.slice(0, 1), ['store: the watch of /mesh/v1/presence/ stays behind'])
  await link.stop({ withdraw: false })
})
