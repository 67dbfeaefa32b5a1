/** Holds join tokens to their lives, on a store of their own and a clock that the test turns. */

import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { Authority } from '#controller/ca/authority.ts'
import { HostLedger } from '#controller/ca/host-ledger.ts'
import { RefusedRecords } from '#controller/ca/refused-records.ts'
import { JoinTokens } from '#controller/enrolment/join-tokens.ts'
import { EmbeddedStore } from '#controller/store/embedded-store.ts'
import { systemRandom as random } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseHostName, parseTrustDomain } from '#shared/model/names.ts'
import { splitRecord } from '#shared/pki/signed-record.ts'
import { decodeHost } from '#shared/schema/records.ts'
import { hostKey, tokensPrefix } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const host = must(parseHostName('h1'))
const trustDomain = must(parseTrustDomain('mesh.internal'))
const day = 86_400_000
const order = {
  host,
  services: ['*'],
  ttlMs: 60_000,
  createdBy: 'spiffe://mesh.internal/operator/a',
}

const rootHash = randomBytes(32)

interface Bench {
  readonly tokens: JoinTokens
  readonly store: KeyValue
  readonly clock: FakeClock
}

async function setUp(t: Test, settings: { readonly maxWaiting?: number } = {}): Promise<Bench> {
  const clock = new FakeClock({ epoch: Date.now() })
  const state = testDirectory(t)
  const embedded = EmbeddedStore.open({ clock, random, logger }, { file: `${state}/s.sqlite` })
  t.teardown(() => embedded.stop())
  const store = embedded.keyValue
  const authority = await Authority.open(
    { clock, random, logger },
    { stateDirectory: state, trustDomain, leafTtlMs: 60_000 },
  )
  const hosts = await HostLedger.open(
    {
      authority,
      store,
      clock,
      logger,
      refused: new RefusedRecords({ logger }),
      isLeader: () => true,
    },
    { stateDirectory: state },
  )
  t.teardown(() => hosts.stop())
  const tokens = new JoinTokens(
    { store, hosts, clock, random },
    { rootHash: () => rootHash, ...settings },
  )
  return { tokens, store, clock }
}

async function create({ tokens }: Bench, ttlMs = order.ttlMs): Promise<string> {
  const created = await tokens.create({ ...order, ttlMs })
  if (!created.ok) throw new Error(created.problem)
  return created.value.token
}

const reasonOf = async (bench: Bench, token: string): Promise<string> => {
  const verdict = await bench.tokens.judge(token)
  return verdict.kind === 'good' ? 'good' : verdict.reason
}

t.test('a token is good until it expires, then expired, and after a day unknown', async (t) => {
  const bench = await setUp(t)
  const token = await create(bench)
  t.equal(await reasonOf(bench, token), 'good')
  await bench.clock.advance(59_999)
  t.equal(await reasonOf(bench, token), 'good')
  await bench.clock.advance(1)
  t.equal(await reasonOf(bench, token), 'token-expired')
  await bench.clock.advance(day)
  await create(bench)
  t.equal(await reasonOf(bench, token), 'token-unknown')
  t.equal((await bench.store.list(tokensPrefix)).entries.length, 1)
})

t.test('redeem writes the host record and uses the token up, both or neither', async (t) => {
  const bench = await setUp(t)
  const token = await create(bench)
  const [one, two] = [await bench.tokens.judge(token), await bench.tokens.judge(token)]
  if (one.kind !== 'good' || two.kind !== 'good') throw new Error('not good')
  t.equal((await bench.store.get(hostKey(host))).entry, null)
  t.equal(await bench.tokens.redeem(one.token), true)
  const { entry } = await bench.store.get(hostKey(host))
  const { body } = must(splitRecord(entry?.value ?? ''))
  t.match(must(decodeHost(body)), { host: 'h1', services: ['*'] })
  t.equal(await bench.tokens.redeem(two.token), false)
  t.equal((await bench.store.get(hostKey(host))).entry?.modRevision, entry?.modRevision)
  t.equal(await reasonOf(bench, token), 'token-used')
})

t.test('a store of before its use makes no token good again', async (t) => {
  const bench = await setUp(t)
  const token = await create(bench, day)
  const before = await bench.store.list('/')
  const verdict = await bench.tokens.judge(token)
  if (verdict.kind !== 'good') throw new Error('not good')
  t.equal(await bench.tokens.redeem(verdict.token), true)
  const again = await create(bench, 2 * day)
  const later = await bench.tokens.judge(again)
  if (later.kind !== 'good') throw new Error('not good')
  t.equal(await bench.tokens.redeem(later.token), true, 'another token of the same host')
  for (const { key } of (await bench.store.list('/')).entries) await bench.store.delete(key)
  for (const { key, value } of before.entries) await bench.store.put(key, value)
  t.equal(await reasonOf(bench, token), 'token-used')
  t.match((await bench.store.get(hostKey(host))).entry, { value: /h1/ }, 'the record is back')
})

t.test(
  'only tokens that wait to be used count, and a used one is kept a day from use',
  async (t) => {
    const bench = await setUp(t, { maxWaiting: 2 })
    const used = await create(bench, 7 * day)
    const verdict = await bench.tokens.judge(used)
    if (verdict.kind !== 'good') throw new Error('not good')
    await bench.tokens.redeem(verdict.token)
    await create(bench)
    await create(bench)
    t.match(await bench.tokens.create(order), { ok: false, problem: /2 join tokens wait/ })
    await bench.clock.advance(60_000)
    await create(bench)
    t.equal(await reasonOf(bench, used), 'token-used')
    await bench.clock.advance(day - 60_000)
    await create(bench)
    t.equal(await reasonOf(bench, used), 'token-unknown')
  },
)

t.test('the store never sees a secret, and a damaged record is as good as none', async (t) => {
  const bench = await setUp(t)
  const token = await create(bench)
  const [, , secret = ''] = token.split('.')
  const [entry] = (await bench.store.list(tokensPrefix)).entries
  if (entry === undefined) throw new Error('no record')
  t.notMatch(entry.value, secret)
  for (const value of [
    '',
    '{}',
    'null',
    entry.value.slice(0, -2),
    entry.value.replace('"*"', '1'),
  ]) {
    await bench.store.put(entry.key, value)
    t.equal(await reasonOf(bench, token), 'token-unknown', value.slice(0, 20))
  }
})
