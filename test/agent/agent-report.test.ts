import t from 'tap'
import { AgentReport, type AgentReportParts } from '#agent/agent-report.ts'
import type { AgentConfig } from '#agent/config.ts'
import type { InstanceHealth } from '#agent/health/check-rules.ts'
import type { Verdict } from '#agent/manifests/receipt.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { hostId, serviceId } from '#shared/model/spiffe-id.ts'
import type { Publication } from '#shared/store/own-keys.ts'
import type { CredentialMessage } from '#agent/workers/messages.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { manifestOf } from '#test/support/manifests.ts'
import { instanceOf } from '#test/support/mesh-records.ts'
import { healthyFacts } from '#test/support/agent-facts.ts'
import { self, snapshotOf, trustDomain } from '#test/support/snapshots.ts'

const now = Date.UTC(2026, 0, 2)
const orders = must(parseServiceName('orders'))
const config = {
  host: self,
  zone: 'z1',
  address: '10.0.0.1',
  controllers: ['10.0.0.9:15010'],
  paths: { manifests: '/etc/mesh.d' },
} as unknown as AgentConfig
const manifest = manifestOf({ port: 8080, upstreams: { files: 9001 } })
const verdict: Verdict = {
  path: manifest.file,
  user: null,
  verdict: 'accepted',
  manifest,
  problems: [],
  hash: 'abc',
}
const passing: InstanceHealth = {
  state: 'passing',
  detail: 'status 200',
  checks: [{ name: 'http', state: 'passing', detail: 'status 200' }],
}
const worker = {
  version: '1.2.3',
  phase: 'live' as const,
  startedAtMs: 1,
  retiringSinceMs: 0,
  open: 3,
  generation: 1,
  index: 0,
  pid: 7,
  protocol: 1,
  applied: 3,
  crashes: 0,
  capturing: null,
  trust: { bundle: 0, bans: 0 },
  listening: { tunnelPort: 15008, listeners: [] },
}
const credential = (id: string, notAfterMs: number): CredentialMessage =>
  ({ id, serial: '0a', notAfterMs, chainPem: '', keyPem: 'secret' }) as CredentialMessage
const hostCredential = credential(hostId(trustDomain, self), now + 1000)
const offered = instanceOf('orders', self)

type Membership = NonNullable<ReturnType<AgentReportParts['membership']>>

/** A host on which everything is well; a test bends one part. */
function makeReport(
  more: Partial<Omit<AgentReportParts, 'membership'>> & {
    readonly link?: Partial<Membership['link']>
    readonly discovery?: Partial<Membership['discovery']>
    readonly isAlone?: boolean
  } = {},
): AgentReport {
  const { link, discovery, isAlone = false, ...parts } = more
  const stored: Publication = { kind: 'stored', revision: 12 }
  const membership: Membership = {
    link: {
      state: { kind: 'connected', since: 0, revision: 9 },
      publication: () => stored,
      ...link,
    },
    discovery: {
      snapshot: snapshotOf([
        { service: 'orders', host: self },
        { service: 'orders', host: 'beta' },
      ]),
      source: 'store',
      builtAtMs: now,
      vouchedAtMs: now,
      hostsKept: [],
      problems: new Map([['/mesh/v1/x', 'no JSON']]),
      ...discovery,
    },
    onDemand: { isOn: true, inUse: 2, counts: new Map([['found', 3]]) },
  }
  return new AgentReport(
    {
      clock: { now: () => now },
      keeper: {
        host: hostCredential,
        mesh: { trustDomain } as never,
        credentials: [hostCredential, credential(serviceId(trustDomain, orders), now + 500)],
        credentialOf: () => credential(serviceId(trustDomain, orders), now + 500),
        problems: [],
        contact: { kind: 'up', atMs: now },
      },
      controller: { current: '10.0.0.9:15010' },
      watcher: {
        verdicts: [verdict],
        manifests: [manifest],
        directoryProblem: 'cannot be read (EACCES)',
      },
      dns: () => new Map([['answered', 3]]),
      policies: () => healthyFacts.policies,
      explainer: { answer: () => ({ kind: 'bad-question', problem: 'none' }) },
      health: {
        statusOf: () => passing,
        changes: [{ service: orders, state: 'failing', count: 3 }],
      },
      registrar: {
        offer: { presence: null, offered: [offered], local: [] },
        offeredOf: (service) => (service === orders ? offered : null),
        withheld: () => null,
        rotation: () => 'in',
        openTo: () => null,
      },
      detector: {
        findingOf: () => ({ speech: 'http/1.1', keepAliveMs: 5000 }),
        mismatchOf: () => '',
      },
      withdrawals: { host: null },
      interception: {
        status: { kind: 'off', reason: 'asked for' },
        plan: null,
        isConfining: false,
        counts: async () => ({ plaintext: new Map(), egressRefused: new Map() }),
        explain: async () => ({ kind: 'direct', why: 'nothing is captured' }),
      },
      externals: { report: () => [] },
      lifts: { whole: null, bypasses: [] },
      locals: { services: [] },
      hub: {
        workers: [worker],
        crashes: 0,
        collect: async () => ({ series: [], carried: null }),
        retireMs: 1000,
        wanted: 1,
        back: Promise.resolve(),
      },
      trust: () => ({ bundle: 4, bans: 2 }),
      trustRecords: { trust: null, series: [] },
      membership: () => (isAlone ? null : membership),
      ...parts,
    },
    { config, version: '1.2.3', pid: 42 },
  )
}

t.test('AgentReport tells a healthy host as it is', async (t) => {
  const report = makeReport()
  t.match(report.status(), {
    host: 'self',
    trustDomain: 'mesh.internal',
    ready: true,
    waitsFor: '',
    store: { kind: 'up' },
    controller: { address: '10.0.0.9:15010', contact: { kind: 'up' } },
    snapshot: {
      source: 'store',
      services: 1,
      instances: 2,
      hosts: 1,
      of: 'services-in-use',
      inUse: 2,
    },
    workers: [{ pid: 7, tunnelPort: 15008 }],
    manifestDirectory: { path: '/etc/mesh.d', problem: 'cannot be read (EACCES)' },
  })
  t.match(report.services(), [
    {
      name: 'orders',
      instances: [
        { host: 'self', local: true },
        { host: 'beta', local: false },
      ],
    },
  ])
  t.match(report.manifests(), [
    {
      service: 'orders',
      verdict: 'accepted',
      health: 'passing',
      upstreams: ['files'],
      published: true,
      revision: 12,
      certificateEndsMs: now + 500,
    },
  ])
})

t.test('AgentReport names the first thing that readiness waits for', async (t) => {
  const contact = { kind: 'unknown' } as const
  const keeper = { mesh: null, credentials: [], credentialOf: () => null, problems: [], contact }
  const listening = { tunnelPort: 0, listeners: [] }
  const hub = (workers: readonly (typeof worker)[]) => ({
    workers,
    retireMs: 1000,
    wanted: 1,
    back: Promise.resolve(),
    crashes: 0,
    collect: async () => ({ series: [], carried: null }),
  })
  const cases: readonly (readonly [RegExp, AgentReport])[] = [
    [/enrolment/, makeReport({ keeper: { ...keeper, host: null } })],
    [
      /new certificate: this host’s ended at 2026-01-02/,
      makeReport({ keeper: { ...keeper, host: { ...hostCredential, notAfterMs: now } } }),
    ],
    [/first view/, makeReport({ isAlone: true })],
    [/first view/, makeReport({ discovery: { source: 'none' } })],
    [/a proxy worker/, makeReport({ hub: hub([]) })],
    [/take the first view/, makeReport({ hub: hub([{ ...worker, applied: 0 }]) })],
    [/listen for tunnels/, makeReport({ hub: hub([{ ...worker, listening }]) })],
  ]
  for (const [expected, report] of cases) {
    const { ready, waitsFor } = report.readiness()
    t.notOk(ready)
    t.match(waitsFor, expected)
  }
  t.ok(makeReport({ discovery: { source: 'disk' } }).readiness().ready, 'the disk is good enough')
})

t.test('AgentReport tells of generations once workers have had time to come back', async (t) => {
  const { promise: back, resolve } = Promise.withResolvers<void>()
  const workers: AgentReportParts['hub']['workers'][number][] = []
  const facts = { crashes: 0, retireMs: 1000, wanted: 1, back }
  const collect = async () => ({ series: [], carried: null })
  const asked = makeReport({ hub: { ...facts, workers, collect } }).generations()
  workers.push(worker)
  resolve()
  t.match(await asked, [{ generation: 1, phase: 'live', workers: [{ pid: 7, open: 3 }] }])
})

t.test('AgentReport tells why other hosts are not told of an instance', async (t) => {
  const withheld = { presence: null, offered: [], local: [] }
  const away = { kind: 'away', since: 0, reason: 'lease lost' } as const
  const cases: readonly (readonly [RegExp, AgentReport])[] = [
    [
      /its health check/,
      makeReport({
        registrar: {
          offer: withheld,
          offeredOf: () => null,
          withheld: () => 'not-healthy',
          rotation: () => 'in',
          openTo: () => null,
        },
      }),
    ],
    [
      /no certificate/,
      makeReport({
        registrar: {
          offer: withheld,
          offeredOf: () => null,
          withheld: () => 'no-certificate',
          rotation: () => 'in',
          openTo: () => null,
        },
      }),
    ],
    [
      /not offered yet/,
      makeReport({
        registrar: {
          offer: withheld,
          offeredOf: () => null,
          withheld: () => null,
          rotation: () => 'in',
          openTo: () => null,
        },
      }),
    ],
    [/has not enrolled/, makeReport({ isAlone: true })],
    [/store is away: lease lost/, makeReport({ link: { state: away } })],
    [
      /store refuses it: not yours/,
      makeReport({ link: { publication: () => ({ kind: 'refused', problem: 'not yours' }) } }),
    ],
    [/on its way/, makeReport({ link: { publication: () => ({ kind: 'pending' }) } })],
  ]
  for (const [expected, report] of cases) {
    const { published } = report.receiptFacts(manifest)
    t.equal(published?.ok, false)
    t.match(published?.detail, expected)
    t.match(report.manifests(), [{ published: false }])
  }
})

t.test(
  'AgentReport shows ended and missing certificates with their problem, and no key',
  async (t) => {
    const ca = await makeTestCa()
    const issued = await ca.issue({ id: hostId(trustDomain, self) })
    const files = must(parseServiceName('files'))
    const problem = { code: 'refused', message: 'no', hint: '', retry: false, atMs: now }
    const report = makeReport({
      keeper: {
        host: hostCredential,
        mesh: { trustDomain } as never,
        credentialOf: () => null,
        credentials: [{ ...hostCredential, chainPem: issued.chainPem, notAfterMs: now - 1 }],
        problems: [
          { identity: 'host', ...problem, code: 'controller-unavailable', message: 'is away' },
          { identity: files, ...problem },
        ],
        contact: { kind: 'down', sinceMs: now - 5, reason: 'is away' },
      },
    })
    const certificates = report.certificates()
    t.match(certificates, [
      { identity: /host\/self$/, serial: '0a', notAfterMs: now - 1, problem: 'is away' },
      { identity: /service\/files$/, serial: '', notAfterMs: 0, problem: 'no', code: 'refused' },
    ])
    t.notMatch(JSON.stringify(certificates), /secret|PEM/)
    t.match(report.status().controller.contact, {
      kind: 'down',
      sinceMs: now - 5,
      reason: 'is away',
    })
  },
)

t.test('the age of the view counts from when the store was last there', async (t) => {
  const away = { kind: 'away', since: now - 60_000, reason: 'x' } as const
  const pageOf = (discovery: Partial<Membership['discovery']>): Promise<string> =>
    makeReport({ link: { state: away }, discovery }).metricsText()
  const vouchedAtMs = now - 90_000
  t.match(await pageOf({ vouchedAtMs }), 'mesh_view_age_seconds 60\n')
  t.match(await pageOf({ vouchedAtMs, source: 'disk' }), 'mesh_view_age_seconds 90\n')
  t.notMatch(await pageOf({ source: 'none' }), 'mesh_view_age_seconds 0')
})

t.test('AgentReport puts its own series beside those of the workers', async (t) => {
  const series = [
    { metric: 'mesh_tunnels_open', labels: { direction: 'inbound' }, value: 3 },
    { metric: 'of_a_newer_worker', labels: {}, value: 1 },
  ]
  const report = makeReport({
    hub: {
      workers: [worker],
      crashes: 0,
      collect: async () => ({ series, carried: new Map([['orders', 2]]) }),
      retireMs: 1000,
      wanted: 1,
      back: Promise.resolve(),
    },
  })
  const page = await report.metricsText()
  for (const line of [
    'mesh_tunnels_open{direction="inbound"} 3',
    'mesh_instance_calls_open{service="orders"} 2',
    'mesh_store_connected 1',
    'mesh_instances_known 2',
    'mesh_discovery_on_demand 1',
    'mesh_services_in_use 2',
    'mesh_service_lookups_total{result="found"} 3',
    'mesh_view_age_seconds 0',
    'mesh_outage_budget_seconds 0.5',
    'mesh_hosts_kept 0',
    'mesh_workers_connected 1',
    'mesh_manifests{verdict="accepted"} 1',
    'mesh_manifests{verdict="rejected"} 0',
    'mesh_instance_healthy{service="orders"} 1',
  ])
    t.match(page, line)
  t.match(
    page,
    /mesh_certificate_expiry_timestamp_seconds\{identity="[^"]*host\/self"\} 1767312001/,
  )
  t.notMatch(page, 'of_a_newer_worker')
})
