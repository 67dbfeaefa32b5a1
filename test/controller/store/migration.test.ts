/** The move from the embedded store to an etcd: what is copied, what is refused, and the way back. */

import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { migrate, undoMigration } from '#controller/store/migration.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { openStore } from '#test/support/embedded-store.ts'
import type { EmbeddedStore } from '#controller/store/embedded-store.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const to = 'http://127.0.0.1:2379'
const { logger } = logLines()
const skip = noEtcd ?? false

async function sides(
  t: Test,
): Promise<{ readonly file: string; readonly source: EmbeddedStore; readonly target: KeyValue }> {
  const directory = testDirectory(t)
  const file = join(directory, 'store.db')
  const source = openStore(file)
  const etcd = await TestEtcd.start(join(directory, 'etcd'))
  const target = openEtcd({ clock, random }, { endpoints: [etcd.url] })
  t.teardown(async () => {
    target.close()
    await source.stop()
    await etcd.kill()
  })
  return { file, source, target }
}

async function contentOf(store: KeyValue): Promise<Readonly<Record<string, string>>> {
  const { entries } = await store.list('/mesh')
  return Object.fromEntries(entries.map(({ key, value }) => [key, value]))
}

t.test(
  'everything is copied and compared, and no lasting change is taken after',
  { skip },
  async (t) => {
    const { file, source, target } = await sides(t)
    const { keyValue } = source
    const { lease } = await keyValue.grantLease(30_000)
    await keyValue.put('/mesh/v1/presence/a', 'A', { lease })
    await keyValue.put('/mesh-controller/v1/leader', 'me', { lease })
    await keyValue.put('/elsewhere', 'not the mesh’s')
    for (let at = 0; at < 250; at++) {
      await keyValue.put(`/mesh/v1/hosts/h${at}`, `${at}`.repeat(at % 50 === 0 ? 90_000 : 1))
    }
    const before = await contentOf(keyValue)
    const moved = await migrate({ source, target, logger }, { to, replace: false })
    t.match(moved, { keys: 251, leased: 1 })
    const { '/mesh-controller/v1/leader': leader, ...lasting } = before
    t.equal(leader, 'me')
    t.strictSame(await contentOf(target), lasting)
    t.ok((await target.get('/mesh/v1/presence/a')).entry?.lease, 'as long as its host takes')
    t.equal((await target.get('/mesh/v1/hosts/h1')).entry?.lease, null)

    const refused = { code: 'store-moved' }
    await t.rejects(keyValue.put('/mesh/v1/hosts/new', 'x'), refused)
    await t.rejects(keyValue.delete('/mesh/v1/hosts/h1'), refused)
    await t.rejects(
      keyValue.transact({ compare: [], success: [{ kind: 'put', key: '/mesh/x', value: '' }] }),
      refused,
    )
    const hosts = await keyValue.listAll(['/mesh/v1/hosts/', '/elsewhere'])
    t.equal(hosts.entries.length, 251, 'a transaction that only reads is no change')
    await t.rejects(migrate({ source, target, logger }, { to, replace: true }), refused)
    await source.stop()
    const again = openStore(file)
    t.teardown(() => again.stop())
    t.equal(again.movedTo, to, 'also after a start')
    await t.rejects(again.keyValue.put('/mesh/v1/hosts/new', 'x'), refused)
    t.equal(await undoMigration({ source: again, logger }), to)
    await again.keyValue.put('/mesh/v1/hosts/new', 'x')
    await t.rejects(undoMigration({ source: again, logger }), { code: 'store-not-moved' })
  },
)

t.test('a target in use is refused, unless it is to be replaced', { skip }, async (t) => {
  const { source, target } = await sides(t)
  await source.keyValue.put('/mesh/v1/hosts/a', 'A')
  await target.put('/mesh/v1/hosts/z', 'of another mesh')
  await t.rejects(migrate({ source, target, logger }, { to, replace: false }), {
    code: 'target-not-empty',
  })
  t.equal(source.movedTo, '')
  await source.keyValue.put('/mesh/v1/hosts/b', 'B')
  t.match(await migrate({ source, target, logger }, { to, replace: true }), { keys: 2 })
  t.strictSame(Object.keys(await contentOf(target)), ['/mesh/v1/hosts/a', '/mesh/v1/hosts/b'])
})

t.test('a copy that fails leaves the embedded store in force', { skip }, async (t) => {
  const { source, target } = await sides(t)
  await source.keyValue.put('/mesh/v1/hosts/a', 'A')
  const meddler: KeyValue = Object.create(target, {
    grantLease: {
      value: async (ttlMs: number) => {
        await target.put('/mesh/v1/hosts/a', 'somebody else’s')
        return target.grantLease(ttlMs)
      },
    },
    list: { value: (prefix: string) => target.list(prefix) },
    transact: { value: (...args: Parameters<KeyValue['transact']>) => target.transact(...args) },
  })
  await t.rejects(migrate({ source, target: meddler, logger }, { to, replace: false }), {
    code: 'target-changed',
  })
  t.equal(source.movedTo, '')
  await source.keyValue.put('/mesh/v1/hosts/b', 'B')
})
