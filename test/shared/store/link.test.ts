import { copyFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must } from '#shared/model/names.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import type { KeyValue, Transaction } from '#shared/store/key-value.ts'
import { StoreLink } from '#shared/store/link.ts'
import type { Scope } from '#shared/store/scope.ts'
import type { StoreChange } from '#shared/store/view.ts'
import { serveStore, type ServedStore } from '#test/support/embedded-store.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until as eventually } from '#test/support/until.ts'
import { waitFor } from '#test/support/wait-for.ts'

const prefix = '/mesh/v1/'
const mine = `${prefix}presence/a`
const instance = `${prefix}instances/orders/a/1`
const theirs = `${prefix}presence/b`

function open(url: string): KeyValue {
  return openEtcd({ clock: systemClock, random: systemRandom }, { endpoints: [url] })
}

const silent = createLogger({ name: 'test', level: 'silent' })

/** A link with short times, stopped at the end of the test. */
function makeLink(
  t: Test,
  connect: () => KeyValue,
  { logger = silent, leaseTtlMs = 3000 } = {},
): StoreLink {
  const link = new StoreLink(
    {
      connect: async () => connect(),
      clock: systemClock,
      random: systemRandom,
      logger,
    },
    { prefix, leaseTtlMs, backoff: { firstMs: 20, lastMs: 200 } },
  )
  t.teardown(() => link.stop({ withdraw: false }))
  return link
}

function until(link: StoreLink, holds: () => boolean): Promise<void> {
  return waitFor(
    holds,
    (listener) => link.onState(listener),
    (listener) => link.onChange(listener),
    (listener) => link.onPublished(listener),
  )
}

const connected = (link: StoreLink): Promise<void> =>
  until(link, () => link.state.kind === 'connected')
const away = (link: StoreLink): Promise<void> => until(link, () => link.state.kind === 'away')

t.test('a link lists, follows, and publishes under a lease', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const store = served.store.keyValue
  await store.put(theirs, 'b1')
  const link = makeLink(t, () => open(served.url))
  t.match(link.state, { kind: 'away', reason: 'not started' })
  link.publish(new Map([[mine, 'a1']]))
  t.strictSame(link.publication(mine), { kind: 'pending' })
  link.start()
  await connected(link)
  t.match(link.publication(mine), { kind: 'stored', revision: Number }, 'connected means published')
  t.not((await store.get(mine)).entry?.lease, null)
  await until(link, () => link.view.entries.has(mine))
  t.strictSame(
    new Map(link.view.entries),
    new Map([
      [theirs, 'b1'],
      [mine, 'a1'],
    ]),
  )

  const changes: StoreChange[] = []
  link.onChange((change) => changes.push(change))
  const put = await store.put(theirs, 'b2')
  await until(link, () => link.view.entries.get(theirs) === 'b2')
  t.strictSame(changes, [{ revision: put.revision, changedKeys: [theirs], removed: new Map() }])
  t.equal(link.view.revision, put.revision)

  link.publish(new Map([[mine, 'a2']]))
  await until(link, () => link.view.entries.get(mine) === 'a2')
})

t.test('a withdrawn key says farewell before it goes, and the change carries it', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const link = makeLink(t, () => open(served.url))
  const watcher = makeLink(t, () => open(served.url))
  watcher.start()
  link.publish(
    new Map([
      [mine, 'a1'],
      [instance, 'up'],
    ]),
    new Map([[instance, 'left']]),
  )
  link.start()
  await until(watcher, () => watcher.view.entries.has(instance))
  const values: (string | undefined)[] = []
  const removed = new Map<string, string>()
  watcher.onChange((change) => {
    if (change.changedKeys.includes(instance)) values.push(watcher.view.entries.get(instance))
    for (const [key, value] of change.removed) removed.set(key, value)
  })
  link.publish(new Map([[mine, 'a1']]))
  await until(watcher, () => !watcher.view.entries.has(instance))
  t.strictSame(removed, new Map([[instance, 'left']]))
  t.equal(values.at(-1), undefined)
  t.equal(watcher.view.entries.get(mine), 'a1')
  t.strictSame(link.publication(instance), { kind: 'none' })
})

t.test('the view is kept while the store is away, and caught up when it is back', async (t) => {
  const file = join(testDirectory(t), 'store.db')
  let served = await serveStore(file)
  t.teardown(() => served.stop())
  const { port, url } = served
  await served.store.keyValue.put(theirs, 'b1')
  await served.store.keyValue.put(`${prefix}presence/c`, 'c1')
  const link = makeLink(t, () => open(url))
  link.publish(new Map([[mine, 'a1']]))
  link.start()
  await connected(link)
  const before = (await served.store.keyValue.get(mine)).entry?.lease
  await served.stop()
  await away(link)
  t.equal(link.view.entries.get(theirs), 'b1', 'the store being away removes nothing')
  link.publish(
    new Map([
      [mine, 'a2'],
      [instance, 'up'],
    ]),
  )

  served = await serveStore(file, { port })
  const store = served.store.keyValue
  await store.put(theirs, 'b2')
  await store.delete(`${prefix}presence/c`)
  const newest = await store.put(theirs, 'b3')
  await store.compact(newest.revision)
  await connected(link)
  t.equal(link.view.entries.get(theirs), 'b3')
  t.notOk(link.view.entries.has(`${prefix}presence/c`))
  const own = (await store.get(mine)).entry
  t.equal(own?.value, 'a2')
  t.equal(own?.lease, before, 'the lease is gone on with')
  t.equal((await store.get(instance)).entry?.value, 'up')
})

t.test('a key withdrawn while the store was away is gone when it is back', async (t) => {
  const file = join(testDirectory(t), 'store.db')
  let served = await serveStore(file)
  t.teardown(() => served.stop())
  const { port, url } = served
  const link = makeLink(t, () => open(url))
  link.publish(
    new Map([
      [mine, 'a1'],
      [instance, 'up'],
    ]),
  )
  link.start()
  await connected(link)
  await served.stop()
  await away(link)
  link.publish(new Map([[mine, 'a1']]), new Map([[instance, 'left']]))
  served = await serveStore(file, { port })
  await connected(link)
  t.equal((await served.store.keyValue.get(instance)).entry, null)
  t.equal((await served.store.keyValue.get(mine)).entry?.value, 'a1')
})

t.test('an absence began with its first failure', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const link = makeLink(t, () => open(served.url))
  link.start()
  await connected(link)
  await served.stop()
  await away(link)
  const { since } = link.state
  let tries = 0
  link.onState(() => (tries += 1))
  await until(link, () => tries === 3)
  t.equal(link.state.since, since)
})

t.test('a store that lost its data gets back what this host owns', async (t) => {
  const dir = testDirectory(t)
  let served = await serveStore(join(dir, 'one.db'))
  t.teardown(() => served.stop())
  const { port, url } = served
  for (let at = 0; at < 20; at++) await served.store.keyValue.put(theirs, `b${at}`)
  const link = makeLink(t, () => open(url))
  link.publish(new Map([[mine, 'a1']]))
  link.start()
  await connected(link)
  await served.stop()
  await away(link)
  served = await serveStore(join(dir, 'two.db'), { port })
  await connected(link)
  t.equal((await served.store.keyValue.get(mine)).entry?.value, 'a1')
  await until(link, () => link.view.entries.get(mine) === 'a1')
  t.ok(link.view.revision < 20, 'the revision follows the store, even back')
  t.notOk(link.view.entries.has(theirs))
})

t.test('a lost lease starts a new session that puts everything again', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const store = served.store.keyValue
  const link = makeLink(t, () => open(served.url))
  link.publish(
    new Map([
      [mine, 'a1'],
      [instance, 'up'],
    ]),
  )
  link.start()
  await connected(link)
  const lease = (await store.get(mine)).entry?.lease
  if (lease === null || lease === undefined) throw new Error('the key has no lease')
  await store.revokeLease(lease)
  await away(link)
  await connected(link)
  const own = (await store.get(mine)).entry
  t.equal(own?.value, 'a1')
  t.not(own?.lease, lease)
  t.equal((await store.get(instance)).entry?.value, 'up')
})

/** A client that tells what is asked of it, and whose transactions can be lost on their way. */
class Told {
  readonly asked: string[] = []
  /** Transactions are sent, and nobody hears what came of them. */
  isLosing = false
  readonly lost: Transaction[] = []
  /** There is no new client. */
  isAway = false

  open(url: string): KeyValue {
    if (this.isAway) throw new MeshError('away', { code: 'store-unavailable', retry: true })
    const store = open(url)
    const told =
      <A extends readonly unknown[], R>(name: string, run: (...args: A) => R) =>
      (...args: A): R => {
        this.asked.push(name)
        return run(...args)
      }
    const { asked } = this
    return {
      ...store,
      get: told('get', (...args) => store.get(...args)),
      list: (...args) => store.list(...args),
      listAll: told('list', (...args) => store.listAll(...args)),
      count: (...args) => store.count(...args),
      watch: (...args) => store.watch(...args),
      grantLease: told('grant', (...args) => store.grantLease(...args)),
      keepAlive: (...args) => store.keepAlive(...args),
      revokeLease: (...args) => store.revokeLease(...args),
      transact: async (transaction, options) => {
        for (const { kind, key } of transaction.success) asked.push(`${kind} ${key}`)
        if (!this.isLosing) return store.transact(transaction, options)
        this.lost.push(transaction)
        throw new MeshError('no answer', { code: 'store-timeout', retry: true })
      },
      close: () => store.close(),
    }
  }
}

for (const kind of ['embedded', 'etcd'] as const) {
  t.test(
    `a session on the ${kind} store goes on from what the last one left`,
    { skip: kind === 'etcd' && noEtcd !== null ? noEtcd : false },
    async (t) => {
      const url = await startStore(t, kind)
      const store = open(url)
      t.teardown(() => store.close())
      await store.put(theirs, 'b1')
      const client = new Told()
      const link = makeLink(t, () => client.open(url), { leaseTtlMs: 120_000 })
      link.publish(new Map([[mine, 'a1']]))
      link.start()
      await until(link, () => link.view.entries.has(mine))
      t.strictSame(client.asked, ['list', 'grant', `put ${mine}`])
      const { entry: before } = await store.get(mine)

      client.asked.length = 0
      client.isAway = true
      link.renew('the credential was renewed')
      await away(link)
      await store.delete(theirs)
      await store.put(instance, 'up')
      client.isAway = false
      await connected(link)
      t.ok(link.view.entries.has(instance), 'what happened meanwhile was told before that')
      t.notOk(link.view.entries.has(theirs))
      t.strictSame(client.asked, ['get'], 'nothing is listed, granted or put')
      t.strictSame(link.sessions, { listed: 1, resumed: 1 })
      t.strictSame((await store.get(mine)).entry, before)
      t.match(link.publication(mine), { kind: 'stored', revision: before?.modRevision })

      await t.test('a write that comes late is mended', async (t) => {
        client.isLosing = true
        link.publish(new Map([[mine, 'a2']]))
        await away(link)
        client.isLosing = false
        link.publish(new Map([[mine, 'a3']]))
        await connected(link)
        t.match((await store.get(mine)).entry, { value: 'a3', lease: before?.lease })
        for (const transaction of client.lost) await store.transact(transaction)
        await eventually('it is put again', async () => {
          const { entry } = await store.get(mine)
          return entry?.value === 'a3' && entry.modRevision > (before?.modRevision ?? 0) + 4
        })
      })

      await t.test('a history that was compacted meanwhile is listed', async (t) => {
        await until(link, () => link.publication(mine).kind === 'stored')
        client.asked.length = 0
        client.isAway = true
        link.renew('the credential was renewed')
        await away(link)
        await store.put(theirs, 'b2')
        const { revision } = await store.put(theirs, 'b3')
        await store.compact(revision)
        client.isAway = false
        await until(link, () => link.view.entries.get(theirs) === 'b3')
        t.strictSame(client.asked, ['get', 'list'], 'and nothing is put')
      })
    },
  )
}

async function startStore(t: Test, kind: 'embedded' | 'etcd'): Promise<string> {
  if (kind === 'etcd') {
    const etcd = await TestEtcd.start(join(testDirectory(t), 'etcd'))
    t.teardown(() => etcd.kill())
    return etcd.url
  }
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  return served.url
}

/** An embedded store that can be set back to a copy of its file. */
class Restorable {
  readonly #file: string
  served: ServedStore

  static async start(t: Test): Promise<Restorable> {
    const file = join(testDirectory(t), 'store.db')
    const restorable = new Restorable(file, await serveStore(file))
    t.teardown(() => restorable.served.stop())
    return restorable
  }

  constructor(file: string, served: ServedStore) {
    this.#file = file
    this.served = served
  }

  get keyValue(): KeyValue {
    return this.served.store.keyValue
  }

  async backUp(link: StoreLink): Promise<void> {
    await this.#whileDown(link, () => copyFileSync(this.#file, `${this.#file}.backup`))
  }

  async restore(link: StoreLink): Promise<void> {
    await this.#whileDown(link, () => {
      for (const end of ['', '-wal', '-shm']) rmSync(this.#file + end, { force: true })
      copyFileSync(`${this.#file}.backup`, this.#file)
    })
  }

  async #whileDown(link: StoreLink, run: () => void): Promise<void> {
    const { port } = this.served
    await this.served.stop()
    await away(link)
    run()
    this.served = await serveStore(this.#file, { port })
    await connected(link)
  }
}

t.test('what was withdrawn after a backup goes again when that is restored', async (t) => {
  const store = await Restorable.start(t)
  const { url } = store.served
  const link = makeLink(t, () => open(url), { leaseTtlMs: 60_000 })
  link.publish(
    new Map([
      [mine, 'a1'],
      [instance, 'up'],
    ]),
    new Map([[instance, 'left']]),
  )
  link.start()
  await until(link, () => link.view.entries.has(instance))
  await store.backUp(link)
  link.publish(new Map([[mine, 'a1']]))
  await until(link, () => !link.view.entries.has(instance))
  await store.keyValue.put(theirs, 'b1')
  await until(link, () => link.view.entries.has(theirs))
  await store.restore(link)
  t.equal((await store.keyValue.get(instance)).entry, null)
  t.match((await store.keyValue.get(mine)).entry, { value: 'a1' })
})

t.test('a store set back to before a deletion is listed', async (t) => {
  const store = await Restorable.start(t)
  const { url } = store.served
  await store.keyValue.put(instance, 'up')
  await store.keyValue.put(theirs, 'b1')
  const link = makeLink(t, () => open(url))
  link.start()
  await until(link, () => link.view.entries.size === 2)
  await store.backUp(link)
  await store.keyValue.delete(instance)
  await until(link, () => link.view.entries.size === 1)
  await store.restore(link)
  t.strictSame([...link.view.entries.keys()].toSorted(), [instance, theirs])
})

t.test('a write that may come where nobody will see it costs the lease', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const store = served.store.keyValue
  const client = new Told()
  let scope: Scope = { kind: 'whole' }
  const link = new StoreLink(
    {
      connect: async () => client.open(served.url),
      clock: systemClock,
      random: systemRandom,
      logger: silent,
      scope: { choose: () => scope },
    },
    { prefix, leaseTtlMs: 6000, backoff: { firstMs: 20, lastMs: 200 } },
  )
  t.teardown(() => link.stop({ withdraw: false }))
  link.publish(new Map([[instance, 'v1']]))
  link.start()
  await until(link, () => link.view.entries.has(instance))
  client.isLosing = true
  link.publish(new Map([[instance, 'v2']]))
  await away(link)
  scope = { kind: 'services', services: new Set() }
  client.isLosing = false
  link.publish(new Map([[instance, 'v3']]))
  await connected(link)
  for (const transaction of client.lost) {
    await store.transact(transaction).catch((error: unknown) => {
      t.match(error, { code: 'store-lease-not-found' })
    })
  }
  await eventually('the last one stands', async () => {
    const { entry } = await store.get(instance)
    const lost = client.lost.flatMap(({ success }) => success)
    const isLate = lost.some((one) => one.kind === 'put' && one.lease === entry?.lease)
    return entry?.value === 'v3' && !isLate
  })
})

t.test(
  'an own key that somebody else has written is written again by the next session',
  async (t) => {
    const served = await serveStore(join(testDirectory(t), 'store.db'))
    t.teardown(() => served.stop())
    const store = served.store.keyValue
    const link = makeLink(t, () => open(served.url))
    link.publish(new Map([[mine, 'a1']]))
    link.start()
    await until(link, () => link.view.entries.has(mine))
    await store.put(mine, 'edited')
    await until(link, () => link.view.entries.get(mine) === 'edited')
    link.renew('the credential was renewed')
    await away(link)
    await connected(link)
    const { entry } = await store.get(mine)
    t.equal(entry?.value, 'a1')
    t.not(entry?.lease, null, 'it goes with the host')
  },
)

t.test(
  'a link that has missed much lists, and one that missed a batch and more is told all',
  async (t) => {
    const url = await startStore(t, noEtcd === null ? 'etcd' : 'embedded')
    const store = open(url)
    t.teardown(() => store.close())
    const client = new Told()
    const link = makeLink(t, () => client.open(url), { leaseTtlMs: 120_000 })
    const keys = Array.from({ length: 3000 }, (_, at) => `${prefix}presence/h${at}`)
    const putAll = async (value: string, count: number): Promise<void> => {
      for (let at = 0; at < count; at += 100) {
        await Promise.all(keys.slice(at, at + 100).map((key) => store.put(key, value)))
      }
    }
    await putAll('1', keys.length)
    link.start()
    await until(link, () => link.view.entries.size === keys.length)
    await connected(link)
    const change: StoreChange[] = []
    link.onChange((one) => change.push(one))
    const missing = async (value: string, count: number): Promise<void> => {
      client.asked.length = 0
      client.isAway = true
      link.renew('the credential was renewed')
      await away(link)
      await putAll(value, count)
      client.isAway = false
      await connected(link)
    }
    await missing('2', 2500)
    t.strictSame(client.asked, ['get'])
    t.equal(new Set(link.view.entries.values()).size, 2)
    t.equal(link.view.entries.get(keys[2499] ?? ''), '2', 'all of it was told before it was there')
    t.ok(change.length > 0 && change.every(({ wasMissed }) => wasMissed === true))
    await missing('3', 3000)
    await missing('4', 3000)
    await store.put(theirs, 'b1')
    await until(link, () => link.view.entries.has(theirs))
    t.notOk(change.at(-1)?.wasMissed, 'that was not missed')
    client.asked.length = 0
    client.isAway = true
    link.renew('the credential was renewed')
    await away(link)
    await putAll('5', 3000)
    await putAll('6', 100)
    client.isAway = false
    await connected(link)
    t.strictSame(client.asked, ['get', 'list'])
  },
)

t.test('another history with a revision of the same number is listed', async (t) => {
  const dir = testDirectory(t)
  let served = await serveStore(join(dir, 'one.db'))
  t.teardown(() => served.stop())
  const { port, url } = served
  await served.store.keyValue.put(theirs, 'b1')
  await served.store.keyValue.put(`${prefix}presence/c`, 'c1')
  const link = makeLink(t, () => open(url))
  link.start()
  await until(link, () => link.view.entries.size === 2)
  await served.stop()
  await away(link)
  served = await serveStore(join(dir, 'two.db'), { port })
  await served.store.keyValue.put(theirs, 'b1')
  for (let at = 0; at < 5; at++) await served.store.keyValue.put(theirs, `b${at}`)
  await connected(link)
  t.strictSame(new Map(link.view.entries), new Map([[theirs, 'b4']]))
})

t.test(
  'what comes late of a session whose writes are in doubt cannot take a key under its lease',
  async (t) => {
    const served = await serveStore(join(testDirectory(t), 'store.db'))
    t.teardown(() => served.stop())
    const store = served.store.keyValue
    const client = new Told()
    // Long leases: none of them lapses while this runs.
    const link = makeLink(t, () => client.open(served.url), { leaseTtlMs: 120_000 })
    link.publish(new Map([[mine, 'a1']]))
    link.start()
    await connected(link)
    const lease = (await store.get(mine)).entry?.lease
    if (lease === null || lease === undefined) throw new Error('the key has no lease')
    client.isLosing = true
    // Nobody follows that one: a late write of it would not be seen.
    link.publish(
      new Map([
        [mine, 'a1'],
        ['/mesh-reports/v1/trust/a', 'trusted'],
      ]),
    )
    await away(link)
    client.isLosing = false
    await connected(link)
    const isRefused = async (): Promise<boolean> => {
      try {
        await store.put(mine, 'late', { lease })
        return false
      } catch (error) {
        return (error as { readonly code?: string }).code === 'store-lease-not-found'
      }
    }
    await eventually('a late write is refused', isRefused)
    await eventually('what it did before that is mended', async () => {
      const { entry } = await store.get(mine)
      return entry?.value === 'a1' && entry.lease !== lease
    })
  },
)

t.test('an own key that somebody deleted is put back in the same session', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const store = served.store.keyValue
  let sessions = 0
  const link = makeLink(t, () => {
    sessions += 1
    return open(served.url)
  })
  link.publish(new Map([[mine, 'a1']]))
  link.start()
  await until(link, () => link.view.entries.has(mine))
  await store.delete(mine)
  await until(link, () => !link.view.entries.has(mine))
  await until(link, () => link.view.entries.get(mine) === 'a1')
  t.equal(sessions, 1)
})

t.test(
  'a restart leaves its keys to the lease, and the next process takes them over',
  async (t) => {
    const served = await serveStore(join(testDirectory(t), 'store.db'))
    t.teardown(() => served.stop())
    const store = served.store.keyValue
    const first = makeLink(t, () => open(served.url))
    first.publish(new Map([[mine, 'a1']]))
    first.start()
    await connected(first)
    const lease = (await store.get(mine)).entry?.lease
    if (lease === null || lease === undefined) throw new Error('the key has no lease')
    await first.stop({ withdraw: false })
    t.equal((await store.get(mine)).entry?.value, 'a1')
    const second = makeLink(t, () => open(served.url))
    second.publish(new Map([[mine, 'a1']]))
    second.start()
    await connected(second)
    // On a crowded machine it may have lapsed by itself.
    await store.revokeLease(lease).catch((error: unknown) => {
      t.match(error, { code: 'store-lease-not-found' })
    })
    t.equal((await store.get(mine)).entry?.value, 'a1', 'the old lease no longer holds it')
  },
)

t.test('a planned stop withdraws every own key and gives the lease back', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const store = served.store.keyValue
  const watcher = makeLink(t, () => open(served.url))
  const removed = new Map<string, string>()
  watcher.onChange((change) => {
    for (const [key, value] of change.removed) removed.set(key, value)
  })
  watcher.start()
  const link = makeLink(t, () => open(served.url))
  link.publish(
    new Map([
      [mine, 'a1'],
      [instance, 'up'],
    ]),
    new Map([[instance, 'left']]),
  )
  link.start()
  await until(watcher, () => watcher.view.entries.has(instance))
  await connected(link)
  const lease = (await store.get(mine)).entry?.lease
  if (lease === null || lease === undefined) throw new Error('the key has no lease')
  await link.stop({ withdraw: true })
  t.strictSame((await store.list(prefix)).entries, [])
  await t.rejects(store.keepAlive(lease), { code: 'store-lease-not-found' })
  await until(watcher, () => watcher.view.entries.size === 0)
  t.equal(removed.get(instance), 'left')
})

/** A link of two keys whose next session has begun, and goes on once `letGo` is called. */
async function beginning(t: Test) {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const { promise, resolve: letGo } = Promise.withResolvers<void>()
  let begun = 0
  const link = makeLink(
    t,
    () => {
      const store = open(served.url)
      const get = store.get.bind(store)
      return Object.assign(store, {
        get: async (...args: Parameters<typeof get>) => {
          begun += 1
          await promise
          return get(...args)
        },
      })
    },
    { leaseTtlMs: 120_000 },
  )
  const all = [mine, instance].map((key) => [key, 'up'] as const)
  link.publish(new Map(all), new Map([[instance, 'left']]))
  link.start()
  await until(link, () => link.view.entries.has(instance))
  link.renew('the credential was renewed')
  await eventually('the next session begins', () => begun > 0)
  return { store: served.store.keyValue, link, letGo }
}

t.test('what is withdrawn while a session begins goes as soon as it stands', async (t) => {
  const { store, link, letGo } = await beginning(t)
  link.publish(new Map([[mine, 'up']]))
  t.not((await store.get(instance)).entry, null)
  letGo()
  await connected(link)
  t.equal((await store.get(instance)).entry, null)
  t.equal((await store.get(mine)).entry?.value, 'up')
})

t.test('a planned stop while a session begins withdraws all the same', async (t) => {
  const { store, link, letGo } = await beginning(t)
  const stopped = link.stop({ withdraw: true })
  letGo()
  await stopped
  t.strictSame((await store.list(prefix)).entries, [])
})

t.test('a planned stop says why own keys are left to the lease', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const { logger, lines } = logLines()
  const said = (): readonly unknown[] =>
    lines.flatMap(({ msg, reason }) =>
      msg === 'store: own keys left to the lease' ? [reason] : [],
    )
  const lost = makeLink(
    t,
    () => {
      throw new Error('no certificate yet')
    },
    { logger },
  )
  lost.start()
  await until(lost, () => lost.state.kind === 'away' && lost.state.reason !== 'not started')
  await lost.stop({ withdraw: true })
  t.same(said(), ['no certificate yet'])

  const { promise, resolve: letGo } = Promise.withResolvers<void>()
  let begun = 0
  const first = makeLink(
    t,
    () => {
      const store = open(served.url)
      const grantLease = store.grantLease.bind(store)
      return Object.assign(store, {
        grantLease: async (...args: Parameters<typeof grantLease>) => {
          begun += 1
          await promise
          return grantLease(...args)
        },
      })
    },
    { logger },
  )
  first.publish(new Map([[mine, 'a1']]))
  first.start()
  await eventually('its first session asks for a lease', () => begun > 0)
  const stopped = first.stop({ withdraw: true })
  letGo()
  await stopped
  t.match(said()[1], 'of those of an earlier process nothing is known yet')

  const whole = makeLink(t, () => open(served.url), { logger })
  whole.publish(new Map([[mine, 'a1']]))
  whole.start()
  await connected(whole)
  await whole.stop({ withdraw: true })
  t.equal(said().length, 2, 'nothing where all is withdrawn')
})

t.test('a key the store refuses holds up no other key, and is tried again', async (t) => {
  const identities = ['spiffe://mesh.internal/host/a', 'spiffe://mesh.internal/controller/one']
  let identity = identities[0] ?? ''
  const served = await serveStore(join(testDirectory(t), 'store.db'), {
    identify: () => must(parseSpiffeId(identity)),
  })
  t.teardown(() => served.stop())
  const link = makeLink(t, () => open(served.url))
  link.publish(
    new Map([
      [mine, 'a1'],
      [theirs, 'stolen'],
      [instance, 'up'],
    ]),
  )
  link.start()
  await connected(link)
  t.match(link.publication(theirs), { kind: 'refused', problem: /permission denied/ })
  t.match(link.publication(mine), { kind: 'stored', revision: Number })
  t.match(link.publication(instance), { kind: 'stored', revision: Number })
  identity = identities[1] ?? ''
  await until(link, () => link.publication(theirs).kind === 'stored')
  t.equal(link.state.kind, 'connected')
})

t.test('a renewed credential makes a new session with a new client', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const { logger, lines } = logLines()
  let sessions = 0
  const link = makeLink(
    t,
    () => {
      sessions += 1
      return open(served.url)
    },
    { logger },
  )
  link.publish(new Map([[mine, 'a1']]))
  link.start()
  await connected(link)
  const states: string[] = []
  link.onState((state) => states.push(state.kind))
  link.renew('the credential was renewed')
  await until(link, () => states.includes('connected'))
  t.strictSame(states, ['away', 'connected'])
  t.match(
    lines.find(({ msg }) => msg === 'store: connected -> away'),
    { level: 'info' },
    'what was planned warns nobody',
  )
  t.equal(sessions, 2)
  t.equal(link.view.entries.get(mine), 'a1')
})

t.test(
  'a client that cannot be made leaves the link away, with the reason, and trying',
  async (t) => {
    const served = await serveStore(join(testDirectory(t), 'store.db'))
    t.teardown(() => served.stop())
    let tries = 0
    const link = makeLink(t, () => {
      tries += 1
      if (tries < 3) throw new Error('no certificate yet')
      return open(served.url)
    })
    link.start()
    await until(
      link,
      () => link.state.kind === 'away' && link.state.reason === 'no certificate yet',
    )
    await connected(link)
    t.equal(tries, 3)
  },
)

t.test('a link without a server stops at once', async (t) => {
  const link = makeLink(t, () => open('http://127.0.0.1:9'))
  link.publish(new Map([[mine, 'a1']]))
  link.start()
  await until(link, () => link.state.kind === 'away' && link.state.reason !== 'not started')
  await link.stop({ withdraw: true })
  t.equal(link.state.kind, 'away')
})

t.test('with a real etcd', { skip: noEtcd ?? false }, async (t) => {
  const etcd = await TestEtcd.start(join(testDirectory(t), 'etcd'))
  t.teardown(() => etcd.kill())
  const link = makeLink(t, () => open(etcd.url))
  const store = open(etcd.url)
  t.teardown(() => store.close())
  await store.put(theirs, 'b1')
  link.publish(new Map([[mine, 'a1']]))
  link.start()
  await connected(link)

  await t.test('a server that was killed is found again', async (t) => {
    await etcd.kill()
    await away(link)
    t.equal(link.view.entries.get(theirs), 'b1')
    await etcd.start()
    await connected(link)
    t.equal((await store.get(mine)).entry?.value, 'a1')
  })

  await t.test('a server that hangs is noticed, and found again', async (t) => {
    etcd.freeze()
    await away(link)
    t.equal(link.view.entries.get(theirs), 'b1')
    etcd.thaw()
    await connected(link)
    t.equal((await store.get(mine)).entry?.value, 'a1')
  })

  await t.test('a compaction while a client was away costs a listing only', async (t) => {
    etcd.freeze()
    await away(link)
    etcd.thaw()
    const { revision } = await store.put(theirs, 'b2')
    await store.compact(revision)
    await connected(link)
    await until(link, () => link.view.entries.get(theirs) === 'b2')
    t.equal(link.view.entries.get(mine), 'a1')
  })
})
