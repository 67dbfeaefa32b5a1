/** What a host says about the trust it acts on, and that it says no more than is so. */

import t from 'tap'
import { TrustReporter, type TrustingWorker } from '#agent/identity/trust-report.ts'
import type { Trust } from '#agent/identity/trust-keeper.ts'
import type { CounterDump, CredentialMessage } from '#agent/workers/messages.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import { noBans, type TrustReport } from '#shared/model/trust.ts'
import { nameRoots } from '#shared/pki/root-name.ts'
import { decodeTrustReport } from '#shared/schema/trust.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const [one, two] = [
  await makeTestCa('mesh.internal', 'one'),
  await makeTestCa('mesh.internal', 'two'),
]
const bundlePem = one.bundlePem + two.bundlePem
const roots = nameRoots(bundlePem)
const [first = '', second = ''] = [...roots.keys()] as string[]
const both: Trust = {
  trustDomain: one.trustDomain,
  bundlePem,
  roots,
  issuing: null,
  spreadMs: 0,
  bans: noBans,
  policies: [],
  epochs: { bundle: 5, bans: 3, policies: 0 },
}

function setUp(settings: {
  trust?: Trust
  workers?: readonly TrustingWorker[]
  credentials?: readonly CredentialMessage[]
  handshakes?: number
}): { reporter: TrustReporter; clock: FakeClock; reports: TrustReport[]; state: typeof settings } {
  const clock = new FakeClock()
  const reports: TrustReport[] = []
  const state = settings
  const collect = async (): Promise<CounterDump> => ({
    series: [
      {
        metric: agentMetrics.handshakesByRoot.name,
        labels: { direction: 'inbound', root: first },
        value: state.handshakes ?? 0,
      },
      { metric: agentMetrics.handshakes.name, labels: {}, value: 99 },
    ],
  })
  const reporter = new TrustReporter(
    {
      clock,
      trust: () => state.trust ?? both,
      problem: () => '',
      credentials: () => state.credentials ?? [],
      workers: () => state.workers ?? [],
      collect,
      publish: (text) => reports.push(must(decodeTrustReport(text))),
    },
    { host: must(parseHostName('h1')) },
  )
  return { reporter, clock, reports, state }
}

t.test('TrustReporter says what all workers act on, and which one lags', async (t) => {
  const worker = (index: number, bundle: number): TrustingWorker => ({
    generation: 2,
    index,
    trust: { bundle, bans: 3 },
  })
  const { reporter, reports, state } = setUp({ workers: [worker(0, 5), worker(1, 4)] })
  reporter.refresh()
  reporter.refresh()
  t.match(reports, [{ epochs: { bundle: 4, bans: 3 }, problem: /worker 1 of generation 2/ }])
  state.workers = [worker(0, 5), worker(1, 5)]
  reporter.refresh()
  t.match(reports[1], { epochs: { bundle: 5, bans: 3 }, problem: '' })
  t.equal(reports.length, 2, 'and nothing twice')
})

t.test(
  'TrustReporter counts certificates by root, and handshakes while there are two',
  async (t) => {
    const leaves = [
      await one.issue({ id: 'spiffe://mesh.internal/host/h1' }),
      await two.issue({ id: 'spiffe://mesh.internal/service/a' }),
      await two.issue({ id: 'spiffe://mesh.internal/service/b' }),
    ]
    const { reporter, clock, reports, state } = setUp({ credentials: leaves, handshakes: 7 })
    reporter.refresh()
    t.same(reports[0]?.held, { [first]: 1, [second]: 2 })
    await clock.advance(1000)
    t.same(reports.at(-1)?.handshakes, { [first]: 7 })
    state.handshakes = 8
    await clock.advance(1000)
    t.same(reports.at(-1)?.handshakes, { [first]: 8 })
    const { size } = new Set(reports.map((report) => JSON.stringify(report)))
    t.equal(size, reports.length)
    state.trust = { ...both, roots: nameRoots(two.bundlePem), bundlePem: two.bundlePem }
    reporter.refresh()
    t.same(reports.at(-1)?.handshakes, {})
    reporter.stop()
    await clock.advance(10_000)
    t.equal(clock.pending, 0, 'nothing is counted any more')
  },
)

t.test('TrustReporter looks once for all who ask within a moment', async (t) => {
  const { reporter, clock, reports } = setUp({})
  for (let asks = 0; asks < 20; asks++) reporter.ask()
  t.equal(reports.length, 0)
  await clock.advance(50)
  t.equal(reports.length, 1)
  reporter.ask()
  reporter.stop()
  t.equal(clock.pending, 0, 'and nobody waits for more')
})
