/** That what hosts may do only goes forward, whatever store, crash or other controller says. */

import { appendFileSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { Authority } from '#controller/ca/authority.ts'
import { HostLedger } from '#controller/ca/host-ledger.ts'
import { RefusedRecords } from '#controller/ca/refused-records.ts'
import { EmbeddedStore } from '#controller/store/embedded-store.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import { must, parseHostName, parseTrustDomain } from '#shared/model/names.ts'
import { signRecord, splitRecord } from '#shared/pki/signed-record.ts'
import { encodeRecord } from '#shared/schema/records.ts'
import { hostKey, hostsPrefix } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { activate, retire } from '#test/support/root-steps.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const trustDomain = must(parseTrustDomain('mesh.internal'))
const [h1, h2] = [must(parseHostName('h1')), must(parseHostName('h2'))]
const enrolledAt = '2026-01-01T00:00:00.000Z'

interface Bench {
  readonly authority: Authority
  readonly store: KeyValue
  readonly state: string
  readonly refused: RefusedRecords
  readonly open: (stateDirectory?: string, store?: KeyValue) => Promise<HostLedger>
}

function openStore(t: Test, file: string): KeyValue {
  const embedded = EmbeddedStore.open({ clock, random, logger }, { file })
  t.teardown(() => embedded.stop())
  return embedded.keyValue
}

async function setUp(t: Test): Promise<Bench> {
  const state = testDirectory(t, { two: {} })
  const authority = await Authority.open(
    { clock, random, logger },
    { stateDirectory: state, trustDomain, leafTtlMs: 60_000 },
  )
  const own = openStore(t, `${state}/store.sqlite`)
  const refused = new RefusedRecords({ logger })
  const open = async (stateDirectory = state, store = own): Promise<HostLedger> => {
    const parts = { authority, store, clock, logger, refused, isLeader: () => true }
    const ledger = await HostLedger.open(parts, { stateDirectory })
    t.teardown(() => ledger.stop())
    return ledger
  }
  return { authority, store: own, state, refused, open }
}

async function allow(ledger: HostLedger, host: HostName, ...services: string[]): Promise<void> {
  const { kind } = await ledger.change(host, () => ({ host, services, enrolledAt }))
  if (kind !== 'done') throw new Error(kind)
}

const epochIn = async (store: KeyValue, host: HostName): Promise<number> => {
  const record = splitRecord((await store.get(hostKey(host))).entry?.value ?? '')
  return record.ok ? record.value.epoch : 0
}
const reasons = ({ refused }: Bench): string =>
  refused.series.map(({ labels }) => `${labels['record']} ${labels['reason']}`).join(', ')

t.test('a store of before a change is refused and overwritten', async (t) => {
  const bench = await setUp(t)
  const { store, open } = bench
  const ledger = await open()
  await allow(ledger, h1, 'orders', 'web-*')
  const old = (await store.get(hostKey(h1))).entry?.value ?? ''
  await allow(ledger, h1, 'orders')
  await allow(ledger, h2, '*')
  await store.put(hostKey(h1), old)
  await store.delete(hostKey(h2))
  t.match(await ledger.read(h1), { services: ['orders'] })
  t.equal(await epochIn(store, h1), 2, 'at once where it is asked for')
  t.equal((await ledger.readAll()).length, 2)
  t.equal(await epochIn(store, h2), 1, 'what is missing is put there again')
  t.equal(reasons(bench), 'host older')
})

t.test('an old store under a controller that starts changes nothing', async (t) => {
  const bench = await setUp(t)
  const { store, state, open } = bench
  const ledger = await open()
  await allow(ledger, h1, '*')
  const old = (await store.get(hostKey(h1))).entry?.value ?? ''
  await allow(ledger, h1, 'orders')
  await ledger.stop()
  const restored = openStore(t, `${state}/old.sqlite`)
  await restored.put(hostKey(h1), old)
  const again = await open(state, restored)
  t.match(again.find(h1), { services: ['orders'] }, 'known before the store is asked')
  await again.start()
  t.equal(await epochIn(restored, h1), 2)
})

t.test('what no controller signed is refused, under any epoch', async (t) => {
  const bench = await setUp(t)
  const { store, state, open, authority } = bench
  const ledger = await open()
  await allow(ledger, h1, 'orders')
  const stranger = await Authority.open(
    { clock, random, logger },
    { stateDirectory: `${state}/two`, trustDomain, leafTtlMs: 60_000 },
  )
  const body = encodeRecord({ host: h1, services: ['*'], enrolledAt })
  const key = hostKey(h1)
  const elsewhere = { key: hostKey(h2), epoch: 9, body }
  const forged = [
    body,
    'nonsense',
    signRecord(stranger.signer, { key, epoch: 9, body }),
    signRecord(authority.signer, elsewhere),
    signRecord(authority.signer, { key, epoch: 9, body: '{"host":"h1"}' }),
    signRecord(authority.signer, { key, epoch: 9, body: body.replace('"h1"', '"h2"') }),
  ]
  for (const text of forged) {
    await store.put(key, text)
    t.match(await ledger.read(h1), { services: ['orders'] }, text.slice(0, 60))
    t.equal(await epochIn(store, h1), 1)
  }
  await store.put(hostKey(h2), body)
  t.equal(await ledger.read(h2), null, 'and a host nobody knows stays unknown')
  t.equal(reasons(bench), 'host malformed, host signature')
})

t.test('what another controller signed is taken over, and survives', async (t) => {
  const { store, state, open } = await setUp(t)
  const [one, two] = [await open(), await open(`${state}/two`)]
  await allow(one, h1, 'orders')
  t.match(await two.read(h1), { services: ['orders'] })
  await allow(two, h1, 'web')
  t.match(await one.read(h1), { services: ['web'] })
  const both = await Promise.all(
    [one, two].map((ledger) => {
      return ledger.change(h1, () => ({ host: h1, services: ['a'], enrolledAt }))
    }),
  )
  t.ok(both.some(({ kind }) => kind === 'done'))
  t.equal(await epochIn(store, h1), 2 + both.filter(({ kind }) => kind === 'done').length)
  t.match(await two.read(h1), { services: ['a'] })
  await Promise.all([one.stop(), two.stop()])
  for (const { key } of (await store.list(hostsPrefix)).entries) await store.delete(key)
  const again = await open(`${state}/two`)
  t.match(await again.read(h1), { services: ['a'] })
})

t.test('two stores that said two things at one epoch end with one of them', async (t) => {
  const { store, state, open } = await setUp(t)
  const other = openStore(t, `${state}/other.sqlite`)
  const [one, two] = [await open(), await open(`${state}/two`, other)]
  await allow(one, h1, 'orders')
  await allow(two, h1, 'web')
  await two.stop()
  const joined = await open(`${state}/two`, store)
  const [a, b] = [await joined.read(h1), await one.read(h1)]
  t.same(a, b)
})

t.test('a root that is replaced leaves no record that a new controller cannot read', async (t) => {
  const { authority, store, state, open } = await setUp(t)
  const ledger = await open()
  await allow(ledger, h1, 'orders')
  await authority.prepare()
  await activate(authority)
  await retire(authority)
  await ledger.compare()
  const fresh = await open(`${state}/two`)
  t.match(await fresh.read(h1), { services: ['orders'] })
  t.equal(await epochIn(store, h1), 1, 'signed anew, not changed')
})

t.test('a crash at any byte of a change loses that change and nothing else', async (t) => {
  const { state, open } = await setUp(t)
  const file = `${state}/hosts.jsonl`
  const ledger = await open()
  await allow(ledger, h1, 'orders')
  t.equal(statSync(file).mode & 0o777, 0o600)
  const before = readFileSync(file)
  await allow(ledger, h1, 'web')
  await ledger.stop()
  const after = readFileSync(file)
  const nowhere = openStore(t, `${state}/empty.sqlite`)
  for (let length = before.length; length <= after.length; length += 7) {
    writeFileSync(file, after)
    truncateSync(file, length)
    const again = await open(state, nowhere)
    t.match(again.find(h1)?.services, length === after.length ? ['web'] : ['orders'])
    await allow(again, h2, '*')
    await again.stop()
    t.match((await open(state, nowhere)).find(h2), { services: ['*'] }, 'and goes on behind it')
    await nowhere.delete(hostKey(h2))
    await nowhere.delete(hostKey(h1))
  }
  writeFileSync(file, after)
  appendFileSync(file, 'nonsense\n')
  await t.rejects(open(), { code: 'state-damaged' })
  writeFileSync(file, 'nonsense\n')
  await t.rejects(open(), { code: 'state-damaged' })
})
