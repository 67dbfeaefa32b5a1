import t from 'tap'
import type { AgentReportParts } from '#agent/agent-report.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { hostId } from '#shared/model/spiffe-id.ts'
import {
  agentReports,
  hostCredential,
  manifest,
  now,
  type Bent,
  worker,
} from '#test/support/agent-reports.ts'
import { manifestOf } from '#test/support/manifests.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { self, trustDomain } from '#test/support/snapshots.ts'

t.test('AgentReport tells a healthy host as it is', async (t) => {
  const { report } = agentReports()
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
  const cases: readonly (readonly [RegExp, Bent])[] = [
    [/enrolment/, { keeper: { ...keeper, host: null } }],
    [
      /new certificate: this host’s ended at 2026-01-02/,
      { keeper: { ...keeper, host: { ...hostCredential, notAfterMs: now } } },
    ],
    [/first view/, { isAlone: true }],
    [/first view/, { discovery: { source: 'none' } }],
    [/a proxy worker/, { hub: hub([]) }],
    [/take the first view/, { hub: hub([{ ...worker, applied: 0 }]) }],
    [/listen for tunnels/, { hub: hub([{ ...worker, listening }]) }],
  ]
  for (const [expected, bent] of cases) {
    const { ready, waitsFor } = agentReports(bent).report.readiness()
    t.notOk(ready)
    t.match(waitsFor, expected)
  }
  t.ok(
    agentReports({ discovery: { source: 'disk' } }).report.readiness().ready,
    'the disk is good enough',
  )
})

t.test('AgentReport tells of generations once workers have had time to come back', async (t) => {
  const { promise: back, resolve } = Promise.withResolvers<void>()
  const workers: AgentReportParts['hub']['workers'][number][] = []
  const facts = { crashes: 0, retireMs: 1000, wanted: 1, back }
  const collect = async () => ({ series: [], carried: null })
  const asked = agentReports({ hub: { ...facts, workers, collect } }).report.generations()
  workers.push(worker)
  resolve()
  t.match(await asked, [{ generation: 1, phase: 'live', workers: [{ pid: 7, open: 3 }] }])
})

t.test(
  'AgentReport shows ended and missing certificates with their problem, and no key',
  async (t) => {
    const ca = await makeTestCa()
    const issued = await ca.issue({ id: hostId(trustDomain, self) })
    const files = must(parseServiceName('files'))
    const problem = { code: 'refused', message: 'no', hint: '', retry: false, atMs: now }
    const { report } = agentReports({
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

t.test('AgentReport says of who has no port that nothing comes in', async (t) => {
  const caller = manifestOf({ run: { user: 'web' } }, 'web')
  const known = { user: 1001, also: [], holdsPort: true, isGuarded: false, problem: '' }
  const { inbound, intercept, onAgentDown } = caller
  const services = [caller, manifest].map(({ service, address, port }) => ({
    ...known,
    service,
    inbound,
    intercept,
    onAgentDown,
    at: port === undefined ? null : { address, port },
  }))
  const { callers } = agentReports({ locals: { services } }).report.status().capture
  t.same(
    callers.map((one) => [one.service, one.inbound]),
    [
      ['web', 'none'],
      ['orders', 'permissive'],
    ],
  )
})
