/** What a host takes for trust, what it refuses, and what outlives its process. */

import { readFileSync, statSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { TrustFile } from '#agent/identity/trust-file.ts'
import { TrustKeeper } from '#agent/identity/trust-keeper.ts'
import { Authority } from '#controller/ca/authority.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseTrustDomain } from '#shared/model/names.ts'
import type { Bans } from '#shared/model/trust.ts'
import { noBans } from '#shared/model/trust.ts'
import { signRecord } from '#shared/pki/signed-record.ts'
import type { TrustRecord } from '#shared/rpc/host-messages.ts'
import { encodeTrust } from '#shared/schema/trust.ts'
import { bansKey, bundleKey, policiesKey } from '#shared/store/keys.ts'
import { activate, retire } from '#test/support/root-steps.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const trustDomain = must(parseTrustDomain('mesh.internal'))
const banned = (...hosts: readonly string[]): Bans => ({
  ...noBans,
  hosts: Object.fromEntries(hosts.map((host) => [host, { reason: '', by: '', at: '' }])),
})

interface Bench {
  readonly authority: Authority
  readonly state: string
  keeper(): Promise<TrustKeeper>
  bundle(epoch: number): TrustRecord
  bans(epoch: number, bans: Bans): TrustRecord
}

async function setUp(t: Test): Promise<Bench> {
  const state = testDirectory(t)
  const authority = await Authority.open(
    { clock, random, logger },
    { stateDirectory: `${state}/ca`, trustDomain, leafTtlMs: 60_000 },
  )
  const first = authority.bundlePem
  const record = (key: string, epoch: number, body: string): TrustRecord => ({
    key,
    value: signRecord(authority.signer, { key, epoch, body }),
  })
  return {
    authority,
    state,
    async keeper() {
      const file = new TrustFile({ logger }, { stateDirectory: state })
      const keeper = new TrustKeeper({ file, clock, logger })
      await keeper.load({ trustDomain, bundlePem: first })
      return keeper
    },
    bundle(epoch) {
      const { roots, issuingRoot: issuing } = authority
      return record(bundleKey, epoch, encodeTrust({ roots, issuing, spreadMs: 0 }))
    },
    bans: (epoch, bans) => record(bansKey, epoch, encodeTrust(bans)),
  }
}

t.test('what a controller signed is taken, kept on the disk and found again', async (t) => {
  const bench = await setUp(t)
  const keeper = await bench.keeper()
  t.same(keeper.trust?.epochs, { bundle: 0, bans: 0, policies: 0 })
  t.equal(keeper.trust?.issuing, null)
  const told: unknown[] = []
  keeper.onChange(({ epochs }) => told.push(epochs))
  await keeper.offer([bench.bans(4, banned('h2')), bench.bundle(3)])
  t.same(told, [
    { bundle: 3, bans: 0, policies: 0 },
    { bundle: 3, bans: 4, policies: 0 },
  ])
  t.match(keeper.trust, { issuing: bench.authority.issuingRoot, bans: banned('h2') })
  t.equal(statSync(`${bench.state}/identity/trust.json`).mode & 0o777, 0o600)
  const again = await bench.keeper()
  t.same(again.trust, keeper.trust)
})

t.test('a lower or equal epoch changes nothing, now and after a restart', async (t) => {
  const bench = await setUp(t)
  const first = await bench.keeper()
  await first.offer([bench.bundle(3), bench.bans(4, banned('h2'))])
  for (const keeper of [first, await bench.keeper()]) {
    const before = keeper.trust
    for (const epoch of [1, 3, 4]) await keeper.offer([bench.bans(epoch, noBans)])
    for (const epoch of [1, 3]) await keeper.offer([bench.bundle(epoch)])
    t.equal(keeper.trust, before)
  }
  await first.offer([bench.bans(5, noBans)])
  t.same(first.trust?.bans, noBans)
})

t.test('what nobody trusted signed is refused, under any epoch', async (t) => {
  const bench = await setUp(t)
  const keeper = await bench.keeper()
  await keeper.offer([bench.bundle(3), bench.bans(4, banned('h2'))])
  const before = keeper.trust
  const stranger = await Authority.open(
    { clock, random, logger },
    { stateDirectory: `${bench.state}/other`, trustDomain, leafTtlMs: 60_000 },
  )
  const forged = { key: bansKey, epoch: 99, body: encodeTrust(noBans) }
  const { value } = bench.bans(9, noBans)
  for (const record of [
    { key: bansKey, value: signRecord(stranger.signer, forged) },
    { key: bansKey, value: 'nonsense' },
    { key: bansKey, value: value.replace('"epoch":9', '"epoch":10') },
    { key: bundleKey, value },
    { key: bansKey, value: signRecord(bench.authority.signer, { ...forged, body: '{"hosts":1}' }) },
  ]) {
    await keeper.offer([record])
    t.equal(keeper.trust, before)
  }
})

t.test(
  'policies of the mesh go forward only, and wait until all of them can be read',
  async (t) => {
    const bench = await setUp(t)
    const keeper = await bench.keeper()
    const deny = (rule: string): string => `{"services": ["orders"], "deny": [${rule}]}`
    const policies = (epoch: number, texts: Record<string, string>): TrustRecord => {
      const body = Object.fromEntries(
        Object.entries(texts).map(([name, text]) => [name, { text, by: '', at: '' }]),
      )
      const record = { key: policiesKey, epoch, body: encodeTrust(body) }
      return { key: policiesKey, value: signRecord(bench.authority.signer, record) }
    }
    await keeper.offer([bench.bundle(1), policies(3, { one: deny('{"paths": ["/admin"]}') })])
    t.match(keeper.trust, {
      epochs: { policies: 3 },
      policies: [{ file: 'mesh-policies/one.json', services: ['orders'], deny: [{}] }],
    })
    const { trust } = keeper
    const newer = { one: deny('{"paths": ["/a"]}'), two: deny('{"unheardOf": true}') }
    await keeper.offer([policies(2, {}), policies(3, {}), policies(4, newer)])
    t.equal(keeper.trust, trust, 'no rule is left out because it cannot be read')
    t.same((await bench.keeper()).trust?.policies, trust?.policies, 'found again on the disk')
    t.same(
      keeper.series.map(({ labels, value }) => [labels, value]),
      [
        [{ record: 'policies', reason: 'older' }, 2],
        [{ record: 'policies', reason: 'malformed' }, 1],
      ],
    )
    await keeper.offer([policies(5, {})])
    t.same(keeper.trust?.policies, [])
  },
)

t.test('a root is followed to the next, and nothing brings the old one back', async (t) => {
  const bench = await setUp(t)
  const keeper = await bench.keeper()
  const { authority } = bench
  const old = bench.bundle(9)
  const [oldRoot] = keeper.trust?.roots.keys() ?? []
  await keeper.offer([bench.bundle(1)])
  await authority.prepare()
  await keeper.offer([bench.bundle(2)])
  t.equal(keeper.trust?.roots.size, 2)
  await activate(authority)
  await keeper.offer([bench.bundle(3)])
  await retire(authority)
  await keeper.offer([bench.bundle(4)])
  t.equal(keeper.trust?.bundlePem, authority.bundlePem)
  await keeper.offer([old])
  t.equal(keeper.trust?.epochs.bundle, 4, 'the old root signs nothing any more')
  t.notOk([...(keeper.trust?.roots.keys() ?? [])].includes(oldRoot as never))
  const again = await bench.keeper()
  t.same(again.trust, keeper.trust, 'the anchor of the enrolment is not needed any more')
})

t.test(
  'a new enrolment begins afresh; a damaged file falls back to what the host knows',
  async (t) => {
    const bench = await setUp(t)
    const keeper = await bench.keeper()
    await keeper.offer([bench.bundle(7), bench.bans(8, banned('h2'))])
    const path = `${bench.state}/identity/trust.json`
    const whole = readFileSync(path, 'utf8')
    for (const text of ['', '{', whole.slice(0, -20), '{"format":9}']) {
      writeFileSync(path, text)
      const again = await bench.keeper()
      t.same(again.trust?.epochs, { bundle: 0, bans: 0, policies: 0 })
    }
    await keeper.anchor(trustDomain, bench.authority.bundlePem)
    t.same(keeper.trust?.bans, noBans)
    await keeper.offer([bench.bans(1, banned('h3'))])
    t.same(keeper.trust?.bans, banned('h3'))
  },
)
