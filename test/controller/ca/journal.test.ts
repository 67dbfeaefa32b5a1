import { join } from 'node:path'
import t from 'tap'
import { Journal } from '#controller/ca/journal.ts'
import { systemRandom as random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { openStore } from '#test/support/embedded-store.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const controller = must(parseHostName('c1'))
const all = { host: '', ended: true, limit: 1000 }
const day = 86_400_000

t.test(
  'what was issued is remembered until a week after its end, the first to end first',
  async (t) => {
    const store = openStore(join(testDirectory(t), 'store.db'))
    t.teardown(() => store.stop())
    const clock = new FakeClock()
    const { logger } = logLines()
    const parts = { store: store.keyValue, clock, random, logger, isLeader: () => true }
    const journal = new Journal(parts, { controller })
    t.teardown(() => journal.stop())
    const issue = (serial: string, days: number, host = 'h1'): void =>
      journal.record({ subject: 'x', host, serial, notAfterMs: clock.now() + days * day })
    issue('late', 3)
    issue('soon', 1, 'h2')
    const serials = async (query = all): Promise<readonly string[]> =>
      (await journal.list(query)).entries.map(({ serial }) => serial)
    t.strictSame(await serials(), ['soon', 'late'])
    t.strictSame(await serials({ ...all, host: 'h1' }), ['late'])
    t.match(await journal.list({ ...all, limit: 1 }), { entries: [{ serial: 'soon' }], more: true })
    await clock.advance(2 * day)
    t.strictSame(await serials({ ...all, ended: false }), ['late'])
    await clock.advance(6.5 * day)
    await journal.sweep()
    t.strictSame(await serials(), ['late'])
  },
)

t.test('it keeps so many and no more, those that end last', async (t) => {
  const store = openStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => store.stop())
  const clock = new FakeClock()
  const { logger } = logLines()
  const parts = { store: store.keyValue, clock, random, logger, isLeader: () => true }
  const journal = new Journal(parts, { controller, maxEntries: 150 })
  t.teardown(() => journal.stop())
  for (let at = 0; at < 400; at++) {
    journal.record({ subject: 'x', host: 'h1', serial: String(at), notAfterMs: clock.now() + at })
  }
  t.equal((await journal.list(all)).entries.length, 400)
  await journal.sweep()
  const { entries } = await journal.list(all)
  t.equal(entries.length, 150)
  t.equal(entries[0]?.serial, '250')
})

t.test('a store that takes nothing delays the journal, never the issuing', async (t) => {
  const store = openStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => store.stop())
  const clock = new FakeClock()
  const { logger, lines } = logLines()
  let full = true
  const moody: KeyValue = Object.create(store.keyValue, {
    transact: {
      value: (...args: Parameters<KeyValue['transact']>) =>
        full
          ? Promise.reject(new MeshError('full', { code: 'store-full', retry: true }))
          : store.keyValue.transact(...args),
    },
    list: { value: (prefix: string) => store.keyValue.list(prefix) },
  })
  const parts = { store: moody, clock, random, logger, isLeader: () => true }
  const journal = new Journal(parts, { controller, maxWaiting: 3 })
  t.teardown(() => journal.stop())
  for (const serial of ['a', 'b', 'c', 'd']) {
    journal.record({ subject: 'x', host: 'h1', serial, notAfterMs: clock.now() + day })
  }
  t.strictSame((await journal.list(all)).entries, [])
  t.equal(journal.lost, 1)
  await clock.advance(60_000)
  t.ok(lines.some(({ msg }) => /journal of certificates cannot be written/.test(String(msg))))
  full = false
  await clock.advance(60_000)
  t.equal((await journal.list(all)).entries.length, 3)
})
