/** A rotation driven by what hosts report: forward, back, over a restart, and past who lags. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Authority } from '#controller/ca/authority.ts'
import { Intermediates } from '#controller/ca/intermediates.ts'
import { RefusedRecords } from '#controller/ca/refused-records.ts'
import { Rotator } from '#controller/ca/rotator.ts'
import { TrustLedger } from '#controller/ca/trust-ledger.ts'
import { EmbeddedStore } from '#controller/store/embedded-store.ts'
import { systemRandom as random } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseHostName, parsePort, parseTrustDomain } from '#shared/model/names.ts'
import type { HostRecord } from '#shared/model/records.ts'
import type { TrustReport } from '#shared/model/trust.ts'
import type { RotationStatus } from '#shared/rpc/operator-messages.ts'
import { encodeRecord } from '#shared/schema/records.ts'
import { encodeTrust } from '#shared/schema/trust.ts'
import { actingKey, presenceKey, trustReportKey } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const trustDomain = must(parseTrustDomain('mesh.internal'))
const leafTtlMs = 60_000
const port = must(parsePort(15008))
const c1 = must(parseHostName('c1'))
/** The controllers that are there. */
let controllers = ['c1']
/** What others do while a rotator looks at the hosts, once. */
let meanwhile = async (): Promise<void> => {}

interface Bench {
  readonly clock: FakeClock
  readonly store: KeyValue
  readonly authority: Authority
  readonly ledger: TrustLedger
  readonly hosts: Map<string, HostRecord>
  readonly rotator: Rotator
  readonly steps: string[]
  /** Turns the clock, giving files and the store their time, until `holds`. */
  readonly turnUntil: (holds: () => boolean | Promise<boolean>) => Promise<void>
}

async function setUp(t: Test): Promise<Bench> {
  const clock = new FakeClock({ epoch: Date.now() })
  const stateDirectory = mkdtempSync(join(tmpdir(), 'rotator-'))
  const parts = { clock, random, logger }
  const embedded = EmbeddedStore.open(parts, { file: `${stateDirectory}/store.sqlite` })
  const store = embedded.keyValue
  const authority = await Authority.open(parts, { stateDirectory, trustDomain, leafTtlMs })
  const refused = new RefusedRecords({ logger })
  const ledger = await TrustLedger.open(
    { authority, store, clock, logger, refused, isLeader: () => true },
    { stateDirectory, spreadMs: 0 },
  )
  await ledger.start()
  const hosts = new Map<string, HostRecord>()
  const steps: string[] = []
  const onStep = async (): Promise<void> => void steps.push(authority.phase.kind)
  const rotatorParts = {
    authority,
    ledger,
    hosts: {
      readAll: async () => {
        const others = meanwhile
        meanwhile = async () => {}
        await others()
        return [...hosts.values()].toSorted((a, b) => (a.host < b.host ? -1 : 1))
      },
    },
    store,
    clock,
    logger,
    membership: {
      isLeader: true,
      get controllers() {
        return controllers.map((name) => ({ name, address: '' }))
      },
    },
    intermediates: new Intermediates(
      { authority, store, clock, logger, refused },
      { controller: c1 },
    ),
    storeNodes: { look: async () => [] },
    onStep,
  }
  const rotator = new Rotator(rotatorParts, { controller: c1, leafTtlMs })
  rotator.start()
  t.teardown(async () => {
    await rotator.stop()
    await ledger.stop()
    await embedded.stop()
    // Here and not before: what stops may still write.
    rmSync(stateDirectory, { recursive: true, force: true })
  })
  const turnUntil: Bench['turnUntil'] = async (holds) => {
    while (!(await holds())) {
      await clock.advance(500)
      await new Promise((resolve) => {
        setTimeout(resolve, 2)
      })
    }
  }
  return { clock, store, authority, ledger, hosts, rotator, steps, turnUntil }
}

const by = 'spiffe://mesh.internal/operator/admin'

/** Puts a host there, with what it says of its trust. */
async function say(
  { store, hosts }: Bench,
  name: string,
  report: Partial<TrustReport> | null,
  live = true,
): Promise<void> {
  const host = must(parseHostName(name))
  const enrolledAt = '2026-01-01T00:00:00Z'
  hosts.set(name, { host, services: ['*'], enrolledAt })
  const presence = { host, address: '10.0.0.1', tunnelPort: port, zone: '', version: '1' }
  if (live) await store.put(presenceKey(host), encodeRecord(presence))
  else await store.delete(presenceKey(host))
  const whole = { host, epochs: { bundle: 0, bans: 0 }, held: {}, handshakes: {}, problem: '' }
  if (report !== null) await store.put(trustReportKey(host), encodeTrust({ ...whole, ...report }))
}

const waitsFor = async ({ rotator }: Bench): Promise<RotationStatus['waitsFor']> =>
  (await rotator.status()).waitsFor

t.test('without hosts a rotation goes through by itself', async (t) => {
  const bench = await setUp(t)
  const { authority, rotator, steps, turnUntil, ledger } = bench
  const before = authority.bundlePem
  t.equal(await rotator.begin(by), 'done')
  t.equal(await rotator.begin(by), 'under-way')
  await turnUntil(() => steps.at(-1) === 'steady')
  t.same(steps, ['distributing', 'reissuing', 'steady'])
  t.not(authority.bundlePem, before)
  t.equal(await rotator.abort(by), 'nothing-to-abort')
  t.match(await rotator.status(), {
    phase: 'steady',
    bundleEpoch: ledger.epochs.bundle,
    roots: [{ name: authority.issuingRoot, state: 'issuing' }],
    waitsFor: [],
  })
})

t.test('each phase waits for the hosts that lag, by name', async (t) => {
  const bench = await setUp(t)
  const { authority, ledger, rotator, turnUntil, clock, steps } = bench
  await say(bench, 'h1', { epochs: ledger.epochs })
  await say(bench, 'h2', null)
  await say(bench, 'gone', null, false)
  await rotator.begin(by)
  const old = authority.issuingRoot
  await clock.advance(5000)
  t.match(await rotator.status(), {
    phase: 'distributing',
    hostsLive: 2,
    hostsReady: 0,
    roots: [{ name: old, state: 'issuing' }, { state: 'next' }],
    waitsFor: [
      { host: 'h1', why: /acts on trust bundle 1, not 2/ },
      { host: 'h2', why: /has not said/ },
    ],
  })
  await say(bench, 'h1', { epochs: ledger.epochs })
  await say(bench, 'h2', { epochs: ledger.epochs, problem: '' })
  await turnUntil(() => steps.at(-1) === 'reissuing')

  const now = { epochs: ledger.epochs }
  await say(bench, 'h1', { ...now, held: { [old]: 2 } })
  await say(bench, 'h2', { ...now, handshakes: { [old]: 1 } })
  t.match(await waitsFor(bench), [
    { host: 'gone', why: /away/ },
    { host: 'h1', why: /holds 2 certificates/ },
    { host: 'h2', why: /handshake/ },
  ])
  await say(bench, 'gone', { ...now })
  await say(bench, 'h1', { ...now, held: { [authority.issuingRoot]: 2 } })
  // Each new handshake begins the quiet time anew, which is longer than any of these pauses.
  for (let count = 2; count < 6; count++) {
    await say(bench, 'h2', { ...now, handshakes: { [old]: count } })
    t.ok((await waitsFor(bench)).some(({ host }) => host === 'h2'))
    await clock.advance(3000)
    t.equal(authority.phase.kind, 'reissuing')
  }
  await turnUntil(() => authority.phase.kind === 'steady')
  t.not(authority.issuingRoot, old)
})

t.test('a banned host is nobody to wait for, and who is away only for one lifetime', async (t) => {
  const bench = await setUp(t)
  const { authority, ledger, rotator, turnUntil, clock, steps } = bench
  await say(bench, 'thief', null)
  await say(bench, 'gone', null, false)
  await ledger.changeBans((bans) => ({
    ...bans,
    hosts: { thief: { reason: '', by, at: '' } },
  }))
  await rotator.begin(by)
  await turnUntil(() => steps.at(-1) === 'reissuing')
  const { phase } = authority
  const since = phase.kind === 'reissuing' ? phase.sinceMs : Infinity
  t.match(await waitsFor(bench), [{ host: 'gone' }])
  await turnUntil(() => authority.phase.kind === 'steady')
  t.ok(clock.now() - since > leafTtlMs)
})

t.test('a rotation given up goes back the way it came', async (t) => {
  const bench = await setUp(t)
  const { authority, ledger, rotator, turnUntil, steps } = bench
  const before = authority.bundlePem
  await say(bench, 'h1', null)
  await rotator.begin(by)
  t.equal(await rotator.abort(by), 'done')
  t.equal(authority.bundlePem, before, 'at once before the activation')
  t.equal((await rotator.status()).phase, 'steady')

  await rotator.begin(by)
  await say(bench, 'h1', { epochs: ledger.epochs })
  await turnUntil(() => steps.at(-1) === 'reissuing')
  const next = authority.issuingRoot
  await say(bench, 'h1', { epochs: ledger.epochs, held: { [next]: 3 } })
  t.equal(await rotator.abort(by), 'done')
  t.equal(await rotator.abort(by), 'nothing-to-abort')
  t.not(authority.issuingRoot, next, 'issued under the old root again')
  await say(bench, 'h1', { epochs: ledger.epochs, held: { [next]: 1 } })
  t.match(await rotator.status(), {
    phase: 'going back',
    roots: [{ state: 'issuing' }, { name: next, state: 'leaving', held: 1 }],
    waitsFor: [{ host: 'h1', why: /holds 1 certificate of/ }],
  })
  await say(bench, 'h1', { epochs: ledger.epochs })
  await turnUntil(() => authority.phase.kind === 'steady')
  t.equal(authority.bundlePem, before)
})

t.test('another controller is waited for until it follows, but not when it is gone', async (t) => {
  const bench = await setUp(t)
  const { authority, ledger, store, rotator, turnUntil, clock } = bench
  t.teardown(() => (controllers = ['c1']))
  controllers = ['c1', 'c2']
  await rotator.begin(by)
  await clock.advance(5000)
  t.match(await waitsFor(bench), [{ host: 'controller c2', why: /does not follow yet/ }])
  await store.put(actingKey(must(parseHostName('c2'))), String(ledger.epochs.bundle))
  await turnUntil(() => authority.phase.kind === 'reissuing')
  for (let turn = 0; turn < 20; turn++) await clock.advance(leafTtlMs / 10)
  t.match(await waitsFor(bench), [{ host: 'controller c2' }])
  t.equal(authority.phase.kind, 'reissuing', 'what it issues would be worth nothing afterwards')
  controllers = ['c1']
  await turnUntil(() => authority.phase.kind === 'steady')
})

t.test('a rotation that nobody was told of is given up at the next start', async (t) => {
  const bench = await setUp(t)
  const { authority, rotator, turnUntil } = bench
  const before = authority.bundlePem
  await authority.prepare()
  t.not(authority.bundlePem, before)
  await turnUntil(() => authority.phase.kind === 'steady')
  t.equal(authority.bundlePem, before)
  t.equal(await rotator.begin(by), 'done')
})

t.test('a bundle that changed while the next step was decided is not overwritten', async (t) => {
  const bench = await setUp(t)
  const { authority, rotator, ledger, turnUntil } = bench
  const { bundle: before } = ledger
  await rotator.begin(by)
  const given = authority.phase
  t.equal(given.kind, 'distributing')
  const { bundle: epoch } = ledger.epochs
  meanwhile = async () => {
    const { roots, issuing } = before
    t.equal(await ledger.changeBundle(epoch, { roots, issuing }), true, 'given up elsewhere')
  }
  await turnUntil(() => authority.phase !== given)
  t.match(authority.phase, { kind: 'steady' })
  t.equal(ledger.epochs.bundle, epoch + 1)
  t.same(ledger.bundle, before)
})
