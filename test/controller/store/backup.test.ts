/** Backup and restore of the embedded store, and what it makes of damage and of a full disk. */

import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Printer } from '#cli/output/printer.ts'
import { storeBackup } from '#cli/store.ts'
import { restoreStore } from '#controller/store/restore.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { openStore, serveStore } from '#test/support/embedded-store.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { needs } from '#test/support/needs.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const parts = { random: systemRandom }

/** A backup of the store served on `file`, made over the wire as meshctl does. */
async function backUp(file: string, backup: string): Promise<string> {
  const served = await serveStore(file)
  const client = openEtcd({ clock: systemClock, random: systemRandom }, { endpoints: [served.url] })
  let out = ''
  const streams = { out: (text: string) => void (out += text), err: () => {} }
  try {
    const printer = new Printer({ streams }, { json: false })
    await storeBackup({ store: client, printer }, { file: backup })
    return out
  } finally {
    client.close()
    await served.stop()
  }
}

async function fill(file: string, keys: number): Promise<void> {
  const store = openStore(file)
  const { lease } = await store.keyValue.grantLease(60_000)
  const puts = Array.from({ length: keys }, (_, at) =>
    store.keyValue.put(`key-${at}`, `${at} `.repeat(50), at % 10 === 0 ? { lease } : {}),
  )
  await Promise.all(puts)
  await store.stop()
}

/** Everything a reader can see. */
async function contentOf(file: string): Promise<string> {
  const store = openStore(file)
  try {
    return JSON.stringify(await store.keyValue.list(''))
  } finally {
    await store.stop()
  }
}

t.test('a backup restores what was there, and what it replaced is kept', async (t) => {
  const directory = testDirectory(t)
  const file = join(directory, 'store.sqlite')
  const backup = join(directory, 'backup')
  await fill(file, 500)
  const before = await contentOf(file)
  t.match(await backUp(file, backup), /backup: \d+\.\d KiB, hash verified\n$/)
  t.equal(statSync(backup).mode & 0o777, 0o600)
  t.strictSame(readdirSync(directory).sort(), ['backup', 'store.sqlite'])

  const store = openStore(file)
  await store.keyValue.put('later', 'x')
  await t.rejects(restoreStore(parts, { backup, file }), { code: 'store-locked' })
  await store.stop()
  const later = await contentOf(file)
  const restored = await restoreStore(parts, { backup, file })
  t.equal(await contentOf(file), before)
  t.equal(restored.revision, (JSON.parse(before) as { revision: number }).revision)
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.equal(await contentOf(restored.kept ?? ''), later)
})

t.test('a backup taken while writes go on is of one moment', async (t) => {
  const directory = testDirectory(t)
  const file = join(directory, 'store.sqlite')
  await fill(file, 2000)
  const served = await serveStore(file)
  const client = openEtcd({ clock: systemClock, random: systemRandom }, { endpoints: [served.url] })
  const over = new AbortController()
  const writing = (async () => {
    for (let at = 0; !over.signal.aborted; at++) {
      // Both or neither, in every backup.
      const put = (key: string) => ({ kind: 'put', key, value: String(at) }) as const
      await served.store.keyValue.transact({ compare: [], success: [put('left'), put('right')] })
    }
  })()
  const pieces: Buffer[] = []
  try {
    for await (const piece of client.snapshot()) pieces.push(piece)
  } finally {
    over.abort()
    await writing
    client.close()
    await served.stop()
  }
  const copy = join(directory, 'copy')
  writeFileSync(copy, Buffer.concat(pieces))
  await restoreStore(parts, { backup: copy, file })
  const store = openStore(file)
  t.teardown(() => store.stop())
  const [left, right] = await Promise.all([store.keyValue.get('left'), store.keyValue.get('right')])
  t.equal(left.entry?.value, right.entry?.value)
  t.equal((await store.keyValue.list('key-')).entries.length, 2000)
})

t.test('a damaged, cut or foreign backup is refused and nothing is touched', async (t) => {
  const directory = testDirectory(t)
  const file = join(directory, 'store.sqlite')
  const backup = join(directory, 'backup')
  await fill(file, 200)
  await backUp(file, backup)
  const good = readFileSync(backup)
  const before = readFileSync(file)
  const flipped = Buffer.from(good)
  flipped.writeUInt8(flipped.readUInt8(9000) ^ 1, 9000)
  const bad: Readonly<Record<string, Buffer>> = {
    'one bit flipped': flipped,
    'cut by a byte': good.subarray(0, -1),
    'cut by a page': good.subarray(0, -4096),
    'without its hash and cut by a page': good.subarray(0, -4096 - 32),
    'a text': Buffer.from('not a backup\n'.repeat(1000)),
    empty: Buffer.alloc(0),
  }
  for (const [name, bytes] of Object.entries(bad)) {
    writeFileSync(backup, bytes)
    await t.rejects(
      restoreStore(parts, { backup, file }),
      {
        code: /^(backup-unusable|store-unreadable)$/,
      },
      name,
    )
    t.ok(readFileSync(file).equals(before), `${name}: the store is as it was`)
    t.strictSame(readdirSync(directory).sort(), ['backup', 'store.sqlite'], name)
  }
  await t.rejects(restoreStore(parts, { backup: join(directory, 'no'), file }), {
    code: 'backup-unusable',
  })
})

t.test('a restore that was interrupted is told, and can be run again', async (t) => {
  const directory = testDirectory(t)
  const file = join(directory, 'store.sqlite')
  const backup = join(directory, 'backup')
  await fill(file, 20)
  await backUp(file, backup)
  copyFileSync(backup, `${file}.restoring`)
  t.throws(() => openStore(file), { code: 'store-half-restored' })
  await restoreStore(parts, { backup, file })
  t.notOk(existsSync(`${file}.restoring`))
  await contentOf(file)
})

t.test('a store cut at any length is refused, never opened as less', async (t) => {
  const directory = testDirectory(t)
  const file = join(directory, 'store.sqlite')
  await fill(file, 300)
  const { size } = statSync(file)
  t.ok(size > 10 * 4096)
  const cut = join(directory, 'cut.sqlite')
  for (let length = 0; length < size; length += 4096 / 2 + 7) {
    copyFileSync(file, cut)
    truncateSync(cut, length)
    t.throws(() => openStore(cut), { code: 'store-unreadable' }, `cut to ${length} of ${size}`)
  }
})

t.test('a store with a page of garbage is refused, or is what it was', async (t) => {
  const directory = testDirectory(t)
  const file = join(directory, 'store.sqlite')
  await fill(file, 300)
  const good = readFileSync(file)
  const expected = await contentOf(file)
  const bad = join(directory, 'bad.sqlite')
  let refused = 0
  const pages = good.length / 4096
  for (let page = 0; page < pages; page++) {
    const bytes = Buffer.from(good)
    bytes.fill(page % 2 === 0 ? 0 : 0xa5, page * 4096, (page + 1) * 4096)
    writeFileSync(bad, bytes)
    try {
      t.equal(await contentOf(bad), expected, `page ${page} was in nobody’s use`)
    } catch (error) {
      if (!(error instanceof MeshError)) throw error
      t.equal(error.code, 'store-unreadable')
      refused += 1
    }
  }
  t.ok(refused > pages * 0.8, `${refused} of ${pages} pages are missed`)
})

t.test(
  'a store at its limit refuses writes, answers reads, and goes on when there is room',
  async (t) => {
    const { logger, lines } = logLines()
    const clock = new FakeClock()
    const store = openStore(join(testDirectory(t), 'store.sqlite'), {
      clock,
      logger,
      maxBytes: 400 * 1024,
    })
    t.teardown(() => store.stop())
    const { lease } = await store.keyValue.grantLease(15_000)
    await store.keyValue.put('presence', 'here', { lease })
    let stored = 0
    const full = (async () => {
      for (;;) {
        await store.keyValue.put(`k${stored}`, 'x'.repeat(10_000))
        stored += 1
      }
    })()
    await t.rejects(full, { code: 'store-full' })
    t.ok(stored > 20, `${stored} keys`)
    await t.rejects(store.keyValue.put('small', 'x'.repeat(20_000)), { code: 'store-full' })
    t.equal((await store.keyValue.list('k')).entries.length, stored)
    t.match((await store.keyValue.status()).problems, [/limit/])
    t.equal(store.gauges.writable, false)
    t.equal(lines.filter(({ level }) => level === 'error').length, 1, 'told once')

    t.equal((await store.keyValue.keepAlive(lease)).ttlMs, 15_000)
    for (const key of ['k0', 'k1', 'k2']) await store.keyValue.delete(key)
    await store.keyValue.compact((await store.keyValue.status()).revision)
    await store.keyValue.put('k0', 'x')
    t.equal(store.gauges.writable, true)
    t.ok(lines.some(({ msg }) => msg === 'store: writes succeed again'))
    t.strictSame((await store.keyValue.status()).problems, [])
  },
)

t.test('a full disk costs no key, and no lease ends because of it', async (t) => {
  if (!needs(t, 'root')) return
  const mounted = join(testDirectory(t), 'disk')
  mkdirSync(mounted)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', mounted], { stdio: 'pipe' })
  } catch {
    t.plan(0, 'may not mount a tmpfs here')
    return
  }
  const clock = new FakeClock()
  const file = join(mounted, 'store.sqlite')
  const ballast = join(mounted, 'ballast')
  const store = openStore(file, { clock })
  try {
    const { lease } = await store.keyValue.grantLease(15_000)
    await store.keyValue.put('presence', 'here', { lease })
    writeFileSync(ballast, '')
    try {
      for (;;) writeFileSync(ballast, Buffer.alloc(4096), { flag: 'a' })
    } catch {
      // Full.
    }
    const full = (async () => {
      for (let at = 0; ; at++) await store.keyValue.put(`k${at}`, 'x'.repeat(4000))
    })()
    await t.rejects(full, { code: 'store-full' })
    const kept = await store.keyValue.list('')
    const [written, listed] = await Promise.allSettled([
      store.keyValue.put('one more', 'x'.repeat(4000)),
      store.keyValue.listAll(['k', 'presence']),
    ])
    t.equal(written.status, 'rejected')
    t.equal(listed.status, 'fulfilled', 'reads go on beside a write that fails')
    await clock.advance(20_000)
    t.ok((await store.keyValue.get('presence')).entry, 'its end could not be written')
    execFileSync('rm', [ballast])
    await store.keyValue.put('again', 'x')
    t.equal((await store.keyValue.list('')).entries.length, kept.entries.length + 1)
    await clock.advance(20_000)
    t.equal((await store.keyValue.get('presence')).entry, null, 'and ends once it can be')
  } finally {
    await store.stop()
    execFileSync('umount', [mounted])
  }
})
