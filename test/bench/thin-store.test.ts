import { join } from 'node:path'
import t from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { openThinStore } from '#test/bench/thin-store.ts'
import { Seen } from '#test/contract/key-value.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { testDirectory } from '#test/support/test-directory.ts'

t.test(
  'the thin store says of records what the real client does, but for values',
  { skip: noEtcd ?? false },
  async (t) => {
    const etcd = await TestEtcd.start(join(testDirectory(t), 'etcd'))
    const real = openEtcd({ clock: systemClock, random: systemRandom }, { endpoints: [etcd.url] })
    const thin = openThinStore(etcd.url)
    t.teardown(async () => {
      thin.close()
      real.close()
      await etcd.kill()
    })
    const seen = new Seen()
    const watch = thin.watch('/mesh/', 1, seen)
    const { lease, ttlMs } = await thin.grantLease(15_000)
    t.strictSame(await thin.keepAlive(lease), { ttlMs })
    const keys = Array.from({ length: 2500 }, (_, at) => `/mesh/${String(at).padStart(4, '0')}`)
    for (let at = 0; at < keys.length; at += 100) {
      const success = keys
        .slice(at, at + 100)
        .map((key) => ({ kind: 'put', key, value: 'x'.repeat(300), lease }) as const)
      await thin.transact({ compare: [], success })
    }
    await real.put('/other', 'not asked for')
    const [theirs, mine] = await Promise.all([real.list('/mesh/'), thin.list('/mesh/')])
    t.equal(mine.revision, theirs.revision)
    t.strictSame(
      mine.entries.map((one) => ({ ...one, lease })),
      theirs.entries.map((one) => ({ ...one, value: '', lease })),
    )
    t.ok(mine.entries.every((one) => one.lease === lease))
    t.ok(theirs.entries.every((one) => one.lease !== null))
    const [first] = mine.entries
    const { key = '', modRevision: revision = 0 } = first ?? {}
    t.strictSame((await thin.get(key, { revision })).entry, first)
    await t.rejects(thin.get(key, { revision: mine.revision + 1000 }), {
      code: 'store-future-revision',
    })
    await thin.revokeLease(lease)
    await seen.until((events) => events.length === 2 * keys.length)
    const progress = seen.progress
    watch.requestProgress()
    await seen.untilProgress(progress + 1)
    t.equal(seen.events.filter(({ kind }) => kind === 'delete').length, keys.length)
    await t.rejects(thin.keepAlive(lease), { code: 'store-lease-not-found' })

    const { revision: old } = await real.put('/mesh/a', '1')
    await real.put('/mesh/a', '2')
    await real.compact(old + 1)
    await t.rejects(thin.get('/mesh/a', { revision: old }), { code: 'store-compacted' })
    const late = new Seen()
    thin.watch('/mesh/', old - 1, late)
    t.match(await late.untilEnd(), { code: 'store-compacted' })

    await etcd.kill()
    t.match(await seen.untilEnd(), { code: 'store-unavailable' })
    await t.rejects(thin.list('/mesh/'), { code: 'store-unavailable' })
  },
)
