import {
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openStore } from '#test/support/embedded-store.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { testDirectory } from '#test/support/test-directory.ts'

t.test('a store opened again has its keys, revisions, history and leases', async (t) => {
  const file = join(testDirectory(t), 'store.db')
  const first = openStore(file)
  const { lease } = await first.keyValue.grantLease(60_000)
  const old = await first.keyValue.put('a', '1', { lease })
  await first.keyValue.put('a', '2', { lease })
  await first.keyValue.put('gone', 'x')
  const last = await first.keyValue.delete('gone')
  await first.stop()

  const again = openStore(file)
  t.teardown(() => again.stop())
  const { entry, revision } = await again.keyValue.get('a')
  t.equal(revision, last.revision)
  t.match(entry, { value: '2', version: 2, createRevision: old.revision, lease })
  const listing = await again.keyValue.list('', { revision: old.revision })
  t.match(listing.entries, [{ key: 'a', value: '1' }])
  t.strictSame(await again.keyValue.keepAlive(lease), { ttlMs: 60_000 })
  await again.keyValue.revokeLease(lease)
  t.strictSame((await again.keyValue.list('')).entries, [])
})

t.test('the file and what stands beside it are for the controller alone', async (t) => {
  const dir = testDirectory(t)
  const store = openStore(join(dir, 'store.db'))
  t.teardown(() => store.stop())
  await store.keyValue.put('a', '1')
  const files = readdirSync(dir)
  t.ok(files.includes('store.db'))
  for (const name of files) t.equal(statSync(join(dir, name)).mode & 0o777, 0o600, name)
})

t.test('a file from a newer version is refused and left as it was', async (t) => {
  const dir = testDirectory(t)
  const file = join(dir, 'store.db')
  const store = openStore(file)
  await store.keyValue.put('a', '1')
  await store.stop()
  const descriptor = openSync(file, 'r+')
  const version = Buffer.alloc(4)
  version.writeInt32BE(2)
  writeSync(descriptor, version, 0, 4, 60)
  closeSync(descriptor)
  const before = readFileSync(file)
  t.throws(() => openStore(file), {
    code: 'store-from-newer-version',
    message: `store file ${file} has schema version 2; this program knows 1`,
  })
  t.ok(readFileSync(file).equals(before))
  t.strictSame(readdirSync(dir), ['store.db'])
})

t.test('a file that is no store, or is damaged, is refused in one line', async (t) => {
  const dir = testDirectory(t, {
    'text.db': 'this is not a database, whatever its name says\n'.repeat(10),
  })
  t.throws(() => openStore(join(dir, 'text.db')), { code: 'store-unreadable' })
  t.throws(() => openStore(dir), { code: 'store-unreadable' })
  t.throws(() => openStore(join(dir, 'missing', 'store.db')), { code: 'store-unreadable' })

  const file = join(dir, 'store.db')
  const store = openStore(file)
  for (let at = 0; at < 200; at++) await store.keyValue.put(`key-${at}`, 'x'.repeat(300))
  await store.stop()
  const bytes = readFileSync(file)
  bytes.fill(0xa5, 4096, bytes.length - 4096)
  writeFileSync(file, bytes)
  t.throws(() => openStore(file), { code: 'store-unreadable' })
})

t.test('a file that another controller uses is refused', async (t) => {
  const file = join(testDirectory(t), 'store.db')
  const store = openStore(file)
  t.throws(() => openStore(file), { code: 'store-locked' })
  await store.stop()
  const next = openStore(file)
  t.teardown(() => next.stop())
  t.equal((await next.keyValue.get('a')).revision, 1)
})

t.test('what was answered survives the death of the process at any moment', async (t) => {
  const dir = testDirectory(t)
  const file = join(dir, 'store.db')
  const store = openStore(file)
  t.teardown(() => store.stop())
  await store.keyValue.put('a', '1')
  const { revision } = await store.keyValue.put('b', '2')
  for (const name of readdirSync(dir)) {
    copyFileSync(join(dir, name), join(dir, name.replace('store', 'copy')))
  }
  const copy = openStore(join(dir, 'copy.db'))
  t.teardown(() => copy.stop())
  const listing = await copy.keyValue.list('')
  t.equal(listing.revision, revision)
  t.match(listing.entries, [{ key: 'a' }, { key: 'b' }])
})

t.test('leases are armed in full when a store opens', async (t) => {
  const file = join(testDirectory(t), 'store.db')
  const clock = new FakeClock()
  const first = openStore(file, { clock })
  const { lease } = await first.keyValue.grantLease(15_000)
  await first.keyValue.put('a', '1', { lease })
  await clock.advance(14_000)
  await first.stop()
  await clock.advance(60_000)
  const again = openStore(file, { clock })
  t.teardown(() => again.stop())
  await clock.advance(14_000)
  t.ok((await again.keyValue.get('a')).entry, 'it has its full time again')
  await clock.advance(2_000)
  t.equal((await again.keyValue.get('a')).entry, null)
})

t.test('history is bounded by itself', async (t) => {
  const store = openStore(join(testDirectory(t), 'store.db'), { keepRevisions: 20 })
  t.teardown(() => store.stop())
  const first = await store.keyValue.put('kept', 'old but live')
  let revision = 0
  for (let at = 0; at < 50; at++) ({ revision } = await store.keyValue.put('a', String(at)))
  await t.rejects(store.keyValue.list('', { revision: revision - 25 }), { code: 'store-compacted' })
  const listing = await store.keyValue.list('', { revision: revision - 15 })
  t.match(listing.entries, [
    { key: 'a', value: '34' },
    { key: 'kept', modRevision: first.revision },
  ])
})

t.test('writes sent together are committed together, each with its revision', async (t) => {
  const store = openStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => store.stop())
  const puts = Array.from({ length: 100 }, (_, at) => store.keyValue.put(`k${at}`, ''))
  const refused = store.keyValue.put('', 'x')
  const more = store.keyValue.put('last', '')
  await t.rejects(refused, { code: 'store-refused' })
  const revisions = (await Promise.all(puts)).map((put) => put.revision)
  t.strictSame(
    revisions,
    Array.from({ length: 100 }, (_, at) => at + 2),
  )
  t.equal((await more).revision, 102, 'a refusal takes no revision and stops nobody else')
})

t.test('a stopped store refuses, and stopping commits what was queued', async (t) => {
  const file = join(testDirectory(t), 'store.db')
  const store = openStore(file)
  const put = store.keyValue.put('a', '1')
  await store.stop()
  await store.stop()
  t.equal((await put).revision, 2)
  await t.rejects(store.keyValue.get('a'), { code: 'store-unavailable' })
  await t.rejects(store.keyValue.put('b', '1'), { code: 'store-unavailable' })
  const again = openStore(file)
  t.teardown(() => again.stop())
  t.equal((await again.keyValue.get('a')).entry?.value, '1')
})
