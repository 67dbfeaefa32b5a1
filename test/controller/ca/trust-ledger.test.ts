/** What a ledger publishes, and that no old store and no crash takes any of it back. */

import { cpSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { Authority } from '#controller/ca/authority.ts'
import { RefusedRecords } from '#controller/ca/refused-records.ts'
import { retired } from '#controller/ca/rotation.ts'
import { TrustLedger } from '#controller/ca/trust-ledger.ts'
import { EmbeddedStore } from '#controller/store/embedded-store.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseTrustDomain } from '#shared/model/names.ts'
import type { Bans, MeshPolicies } from '#shared/model/trust.ts'
import { splitRecord } from '#shared/pki/signed-record.ts'
import { decodeBans, decodeBundle } from '#shared/schema/trust.ts'
import { bansKey, bundleKey, policiesKey } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'
import { activate, retire } from '#test/support/root-steps.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const trustDomain = must(parseTrustDomain('mesh.internal'))
const ban = { reason: 'lost', by: 'test', at: '2026-01-01T00:00:00.000Z' }
const banning = (host: string) => (bans: Bans) => ({
  ...bans,
  hosts: { ...bans.hosts, [host]: ban },
})

/** The bundle that tells where the CA is. */
const tell = (ledger: TrustLedger, authority: Authority): Promise<boolean> =>
  ledger.changeBundle(ledger.epochs.bundle, authority.bundleIn(authority.phase))

/** The old root goes: first from the bundle, then from the CA. */
async function goOn(ledger: TrustLedger, authority: Authority): Promise<void> {
  const after = retired(authority.phase)
  if (after === null) throw new Error('it cannot go')
  await ledger.changeBundle(ledger.epochs.bundle, authority.bundleIn(after))
  await retire(authority)
  await ledger.refresh()
}

interface Bench {
  readonly authority: Authority
  readonly store: KeyValue
  readonly state: string
  readonly refused: RefusedRecords
  readonly open: (state?: string, store?: KeyValue) => Promise<TrustLedger>
}

async function setUp(t: Test): Promise<Bench> {
  const state = testDirectory(t)
  const authority = await Authority.open(
    { clock, random, logger },
    { stateDirectory: state, trustDomain, leafTtlMs: 60_000 },
  )
  const store = openStore(t, `${state}/store.sqlite`)
  const refused = new RefusedRecords({ logger })
  const open = async (stateDirectory = state, over = store): Promise<TrustLedger> => {
    const ledger = await TrustLedger.open(
      {
        authority,
        store: over,
        clock,
        logger,
        refused,
        isLeader: () => true,
      },
      { stateDirectory, spreadMs: 5000, compareMs: 20 },
    )
    t.teardown(() => ledger.stop())
    return ledger
  }
  return { authority, store, state, refused, open }
}

function openStore(t: Test, file: string): KeyValue {
  const embedded = EmbeddedStore.open({ clock, random, logger }, { file })
  t.teardown(() => embedded.stop())
  return embedded.keyValue
}

async function inStore(store: KeyValue, key: string): Promise<{ epoch: number; body: string }> {
  const { entry } = await store.get(key)
  return must(splitRecord(entry?.value ?? ''))
}

t.test('a ledger puts its records into the store and follows the CA', async (t) => {
  const { authority, store, refused, open } = await setUp(t)
  const ledger = await open()
  await ledger.start()
  const first = await inStore(store, bundleKey)
  t.match(must(decodeBundle(first.body)), {
    roots: authority.roots,
    issuing: authority.issuingRoot,
  })
  t.same(must(decodeBans((await inStore(store, bansKey)).body)), { hosts: {}, serials: {} })
  await authority.prepare()
  t.equal(await tell(ledger, authority), true)
  t.equal(await ledger.changeBundle(first.epoch, authority.bundleIn(authority.phase)), false)
  const second = await inStore(store, bundleKey)
  t.equal(second.epoch, first.epoch + 1)
  t.match(must(decodeBundle(second.body)), { rotation: { phase: 'distributing' } })
  t.equal(must(decodeBundle(second.body)).roots.length, 2)
  await activate(authority)
  await tell(ledger, authority)
  t.equal(must(decodeBundle((await inStore(store, bundleKey)).body)).issuing, authority.issuingRoot)
  const bans = await inStore(store, bansKey)
  await goOn(ledger, authority)
  t.same(must(decodeBundle((await inStore(store, bundleKey)).body)).roots, authority.roots)
  t.equal((await inStore(store, bansKey)).epoch, bans.epoch + 1, 'signed anew')
  t.same(refused.series, [], 'nothing of that was news to the ledger')
})

t.test('a ban is told once, and outlives a restart', async (t) => {
  const { store, open } = await setUp(t)
  const ledger = await open()
  await ledger.start()
  const { bans: epoch } = ledger.epochs
  t.equal(await ledger.changeBans(banning('h1')), true)
  t.equal(await ledger.changeBans(() => null), false)
  t.equal(ledger.epochs.bans, epoch + 1)
  t.same(must(decodeBans((await inStore(store, bansKey)).body)).hosts, { h1: ban })
  await ledger.stop()
  const again = await open()
  t.same(again.bans.hosts, { h1: ban })
  t.equal(again.epochs.bans, epoch + 1)
})

t.test('a list of bans too long for hosts is refused, and the one before stays', async (t) => {
  const { open } = await setUp(t)
  const ledger = await open()
  await ledger.changeBans(banning('h1'))
  const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`host-${i}`, ban]))
  const change = ledger.changeBans((bans) => ({ ...bans, hosts: many }))
  await t.rejects(change, { code: 'too-many-bans', hint: /unban/ })
  t.same(ledger.bans.hosts, { h1: ban })
})

t.test('a store of before a ban and a rotation changes nothing backwards', async (t) => {
  const { authority, store, state, open } = await setUp(t)
  const ledger = await open()
  await ledger.start()
  const old = [
    [bundleKey, (await store.get(bundleKey)).entry?.value ?? ''],
    [bansKey, (await store.get(bansKey)).entry?.value ?? ''],
  ] as const
  await ledger.changeBans(banning('h1'))
  await authority.prepare()
  await activate(authority)
  await tell(ledger, authority)
  await goOn(ledger, authority)
  const { epochs } = ledger
  const epochOf = async (key: string): Promise<number> => {
    const { entry } = await store.get(key)
    const record = splitRecord(entry?.value ?? '')
    return record.ok ? record.value.epoch : 0
  }
  const holds = async (): Promise<boolean> =>
    (await epochOf(bundleKey)) === epochs.bundle && (await epochOf(bansKey)) === epochs.bans
  // The records as they were, then none at all, then nonsense.
  for (const values of [
    old,
    old.map(([key]) => [key, null] as const),
    [[bansKey, '{}'] as const],
  ]) {
    for (const [key, value] of values) {
      await (value === null ? store.delete(key) : store.put(key, value))
    }
    await until('the store has what was known', holds, { withinMs: 30_000 })
    t.same(ledger.epochs, epochs)
    t.same(ledger.bans.hosts, { h1: ban })
  }
  // A whole old store under a controller that starts.
  await ledger.stop()
  const empty = openStore(t, `${state}/old.sqlite`)
  for (const [key, value] of old) await empty.put(key, value)
  const again = await open(state, empty)
  await again.start()
  t.same(again.epochs, epochs)
  t.equal((await inStore(empty, bansKey)).epoch, epochs.bans)
  t.same(must(decodeBundle((await inStore(empty, bundleKey)).body)).roots, authority.roots)
})

const text = '{"services": ["orders"], "deny": [{"paths": ["/admin"]}]}'
const putting = (name: string) => (policies: MeshPolicies) => ({
  ...policies,
  [name]: { text, by: 'test', at: ban.at },
})
const removing = (name: string) => (policies: MeshPolicies) => {
  const { [name]: _gone, ...others } = policies
  return others
}

t.test('a store of before brings no policy back and takes none away', async (t) => {
  const { store, open } = await setUp(t)
  const ledger = await open()
  await ledger.start()
  await ledger.changePolicies(putting('goes'))
  const old = (await store.get(policiesKey)).entry?.value ?? ''
  t.equal(await ledger.changePolicies(putting('comes')), true)
  t.equal(await ledger.changePolicies(removing('goes')), true)
  t.equal(await ledger.changePolicies(() => null), false)
  const { policies: epoch } = ledger.epochs
  const holds = async (): Promise<boolean> => {
    const record = splitRecord((await store.get(policiesKey)).entry?.value ?? '')
    return record.ok && record.value.epoch === epoch
  }
  for (const change of [() => store.put(policiesKey, old), () => store.delete(policiesKey)]) {
    await change()
    await until('the store has what was known', holds, { withinMs: 30_000 })
    t.same(Object.keys(ledger.policies), ['comes'])
  }
  await store.put(policiesKey, old)
  t.equal(
    await ledger.changePolicies(putting('more')),
    true,
    'and a change builds on what is known',
  )
  t.same(Object.keys(ledger.policies).toSorted(), ['comes', 'more'])
})

t.test('policies that many controllers change at once are all there', async (t) => {
  const { state, open } = await setUp(t)
  const one = await open()
  await one.start()
  mkdirSync(`${state}/two`)
  cpSync(`${state}/trust.json`, `${state}/two/trust.json`)
  const two = await open(`${state}/two`)
  await two.start()
  const names = ['a', 'b', 'c', 'd', 'e', 'f']
  await Promise.all(names.map((name, i) => (i % 2 ? one : two).changePolicies(putting(name))))
  await until(
    'both know all',
    () => [one, two].every(({ policies }) => Object.keys(policies).length === names.length),
    { withinMs: 30_000 },
  )
  const long = { text: ' '.repeat(600_000), by: '', at: '' }
  await t.rejects(
    one.changePolicies(() => ({ long })),
    { code: 'too-many-policies' },
  )
})

t.test('two controllers take over what the other has signed, and lift no ban', async (t) => {
  const { store, state, open } = await setUp(t)
  const one = await open()
  await one.start()
  mkdirSync(`${state}/two`)
  cpSync(`${state}/trust.json`, `${state}/two/trust.json`)
  const two = await open(`${state}/two`)
  await two.start()
  await one.changeBans(banning('h1'))
  await until('the other knows', () => 'h1' in two.bans.hosts, { withinMs: 30_000 })
  await Promise.all([one.changeBans(banning('h2')), two.changeBans(banning('h3'))])
  const all = ['h1', 'h2', 'h3']
  await until(
    'both know all',
    () => [one, two].every(({ bans }) => Object.keys(bans.hosts).sort().join() === all.join()),
    { withinMs: 30_000 },
  )
  await until(
    'and so does the store',
    async () => {
      const { body } = await inStore(store, bansKey)
      return (
        Object.keys(must(decodeBans(body)).hosts)
          .sort()
          .join() === all.join()
      )
    },
    { withinMs: 30_000 },
  )
})

t.test('a damaged file is refused, not begun afresh', async (t) => {
  const { state, open } = await setUp(t)
  await open()
  const file = `${state}/trust.json`
  const whole = readFileSync(file, 'utf8')
  for (const length of [0, 1, whole.length >> 1, whole.length - 3]) {
    writeFileSync(file, whole)
    truncateSync(file, length)
    await t.rejects(open(), { code: 'state-damaged' }, `${length} bytes`)
  }
  writeFileSync(file, whole.replace('"format": 1', '"format": 2'))
  await t.rejects(open(), { code: 'state-from-newer-version' })
})
