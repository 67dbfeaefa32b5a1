import t from 'tap'
import { checkNames, judge } from '#agent/admin/checks.ts'
import type { CaptureReport } from '#shared/model/admin-capture.ts'
import type { PoliciesReport, ServicePolicyReport } from '#shared/model/admin-policies.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import type { WorkerReport } from '#shared/model/admin-workers.ts'
import type { AgentFacts, CertificateReport, MachineReport } from '#shared/model/admin.ts'
import { factsNow as now, healthyFacts, withStatus } from '#test/support/agent-facts.ts'

const [worker] = healthyFacts.status.workers
const [manifest] = healthyFacts.manifests
const [hostCertificate, serviceCertificate] = healthyFacts.certificates

function certificates(host: Partial<CertificateReport>, service: Partial<CertificateReport> = {}) {
  return {
    ...healthyFacts,
    certificates: [
      { ...hostCertificate, ...host },
      { ...serviceCertificate, ...service },
    ],
  } as AgentFacts
}

function manifests(change: Partial<ManifestReport>): AgentFacts {
  return { ...healthyFacts, manifests: [{ ...manifest, ...change } as ManifestReport] }
}

function listenerProblem(name: string): AgentFacts {
  const listeners = worker?.listeners.map((listener) =>
    listener.name === name ? { ...listener, problem: 'EADDRINUSE' } : listener,
  )
  return withWorker(listeners === undefined ? {} : { listeners })
}

function withWorker(change: Partial<WorkerReport>): AgentFacts {
  return withStatus({ workers: [{ ...worker, ...change } as WorkerReport] })
}

const unknown = {
  service: 'db',
  user: null,
  unit: null,
  problem: '',
  inbound: 'permissive',
} as const

function withCapture(change: Partial<CaptureReport>): AgentFacts {
  return withStatus({ capture: { ...healthyFacts.status.capture, ...change } })
}

/** An external service in trouble, with what is known of where it is. */
function withExternal(addresses: readonly string[]): AgentFacts {
  const report = {
    service: 'api',
    file: 'api.json',
    protocol: 'tcp',
    addresses: ['api.example.com'],
    port: 443,
    tls: 'pass',
    intercept: [],
    endpoints: addresses.map((address) => ({ address, said: 'api.example.com' })),
    problems: ['api.example.com does not resolve: ENOTFOUND'],
  } as const
  return { ...healthyFacts, external: [report] }
}

const away = { kind: 'down', sinceMs: now - 5000, reason: 'connection refused' } as const
const { snapshot, controller } = healthyFacts.status

function policies(change: Partial<PoliciesReport>): AgentFacts {
  return { ...healthyFacts, policies: { ...healthyFacts.policies, ...change } }
}

function ordersPolicy(change: Partial<ServicePolicyReport>): AgentFacts {
  const service: ServicePolicyReport = {
    service: 'orders',
    strict: true,
    fallback: 'deny',
    deny: 0,
    allow: 1,
    audit: false,
    protection: 'locked',
    note: '',
    idle: [],
  }
  return policies({ services: [{ ...service, ...change }] })
}

function withMachine(change: Partial<MachineReport>): AgentFacts {
  return { ...healthyFacts, machine: { ...healthyFacts.machine, ...change } }
}

const generations = [1, 2, 3].map((generation) => ({ ...worker, generation }) as WorkerReport)
const behind = { ...worker, index: 1, trust: { bundle: 1, bans: 0 } } as WorkerReport
const web = 'spiffe://mesh.internal/service/web'

const badFile = {
  file: 'a.json',
  verdict: 'rejected',
  problems: ['a.json:1:2: no'],
  services: [],
  mode: 'enforce',
} as const

const cases: readonly (readonly [check: string, verdict: string, facts: AgentFacts])[] = [
  ['policy-files', 'failed', policies({ directory: { path: '/x', problem: 'not read' } })],
  ['policy-files', 'failed', policies({ files: [badFile] })],
  ['policy-protection', 'warning', ordersPolicy({ protection: 'local-only', note: 'port 80' })],
  ['policy-protection', 'failed', ordersPolicy({ protection: 'unprotected', note: '0.0.0.0' })],
  ['policy-rules', 'warning', ordersPolicy({ idle: ['deny[0] speaks to nobody'] })],
  ['agent-ready', 'failed', withStatus({ ready: false, waitsFor: 'a worker' })],
  ['host-enrolled', 'failed', { ...healthyFacts, certificates: [] }],
  ['host-certificate', 'failed', certificates({ notAfterMs: now - 1 })],
  ['host-certificate', 'warning', certificates({ notAfterMs: now + 60_000 })],
  ['service-certificates', 'failed', certificates({}, { serial: '', notAfterMs: 0 })],
  ['certificate-renewal', 'warning', certificates({}, { problem: 'not in the host record' })],
  ['clock', 'failed', certificates({ notBeforeMs: now + 1000 })],
  ['controller-reachable', 'warning', withStatus({ controller: { ...controller, contact: away } })],
  ['outage-budget', 'failed', withStatus({ outageBudget: { ms: 0, endsFirst: web } })],
  ['outage-budget', 'warning', withStatus({ controller: { ...controller, contact: away } })],
  [
    'store-records',
    'warning',
    withStatus({ snapshot: { ...snapshot, rejected: 1, problems: ['/mesh/v1/x: no JSON'] } }),
  ],
  ['hosts-kept', 'warning', withStatus({ snapshot: { ...snapshot, hostsKept: ['beta'] } })],
  ['worker-crashes', 'warning', withWorker({ crashes: 2 })],
  ['worker-versions', 'warning', withWorker({ version: '0.0.9' })],
  ['worker-generations', 'warning', withStatus({ workers: generations })],
  ['workers-trust', 'warning', withStatus({ workers: [...healthyFacts.status.workers, behind] })],
  ['open-files', 'warning', withMachine({ openFiles: 1024 })],
  ['state-disk', 'warning', withMachine({ stateFreeBytes: 1000 })],
  ['memory-free', 'warning', withMachine({ memoryFreeBytes: 2 ** 20 })],
  ['tracked-connections', 'failed', withMachine({ connectionsTracked: 65_000 })],
  ['local-ports', 'warning', withMachine({ localPorts: 500 })],
  ['store-session', 'warning', withStatus({ store: away })],
  ['snapshot', 'failed', withStatus({ snapshot: { ...snapshot, source: 'none' } })],
  ['snapshot', 'warning', withStatus({ snapshot: { ...snapshot, source: 'disk' } })],
  ['workers-connected', 'failed', withStatus({ workers: [] })],
  ['workers-current', 'warning', withStatus({ snapshot: { ...snapshot, sequence: 8 } })],
  ['tunnel-listener', 'failed', withWorker({ tunnelPort: 0 })],
  ['forward-proxy-listener', 'failed', listenerProblem('forward proxy')],
  ['capture', 'failed', withCapture({ kind: 'failed', reason: 'another agent has the table' })],
  ['capture', 'warning', withCapture({ kind: 'waiting', reason: 'no worker' })],
  ['callers-known', 'warning', withCapture({ callers: [{ ...unknown, problem: 'root' }] })],
  ['capture', 'warning', withCapture({ kind: 'lifted', reason: 'switched off by ann: a test' })],
  ['capture', 'warning', withCapture({ limit: 'this kernel cannot masquerade' })],
  ['egress', 'failed', withCapture({ egress: 'registry-only', kind: 'off', reason: 'no nft' })],
  ['external', 'warning', withExternal(['203.0.113.5'])],
  ['external', 'failed', withExternal([])],
  [
    'bypasses',
    'warning',
    withCapture({
      bypasses: [{ service: 'db', untilMs: now + 60_000, sinceMs: now, by: 'ann', reason: 'slow' }],
    }),
  ],
  ['intercepts', 'warning', withCapture({ problems: ['10.0.0.5:22 of db: port 22'] })],
  ['explicit-listeners', 'failed', listenerProblem('orders (web.json)')],
  ['protocols-match', 'failed', manifests({ mismatch: 'declared http, but it speaks TLS' })],
  ['in-rotation', 'warning', manifests({ rotation: 'leaving', published: false })],
  ['in-rotation', 'warning', withStatus({ maintenance: { sinceMs: now, reason: 'disk' } })],
  ['requirements-met', 'failed', manifests({ requires: ['lost'] })],
  ['advertised-address', 'warning', withStatus({ address: '127.0.0.1' })],
  ['manifests', 'failed', manifests({ verdict: 'rejected', problems: ['web.json:1:2 bad'] })],
  [
    'manifests',
    'warning',
    withStatus({ manifestDirectory: { path: '/m', problem: 'is gone', cause: 'a', fix: 'b' } }),
  ],
  ['instances-healthy', 'failed', manifests({ health: 'failing', healthDetail: 'refused' })],
  ['instances-healthy', 'warning', manifests({ health: 'warning', healthDetail: 'status 429' })],
  [
    'instances-healthy',
    'warning',
    manifests({ health: 'starting', healthDetail: 'not checked yet', healthSinceMs: now - 10_000 }),
  ],
  ['instances-healthy', 'warning', manifests({ portsDown: ['admin: ECONNREFUSED'] })],
  ['instances-published', 'warning', manifests({ published: false })],
  ['instances-published', 'warning', manifests({ health: 'warning', published: false })],
  ['upstreams-known', 'warning', { ...healthyFacts, services: [] }],
]

t.test('judge finds nothing wrong with a healthy agent', async (t) => {
  const reports = judge(healthyFacts)
  t.same(
    reports.map(({ name }) => name),
    checkNames,
  )
  t.same(
    reports.filter(({ verdict }) => verdict !== 'ok'),
    [],
  )
})

t.test('judge sees each fault, and says cause and fix', async (t) => {
  for (const [check, verdict, facts] of cases) {
    const report = judge(facts).find(({ name }) => name === check)
    t.equal(report?.verdict, verdict, `${check} is ${verdict}`)
    t.ok(report?.cause && report.fix, `${check} has cause and fix`)
  }
})

t.test('rows of the outage say who vouched when, and what is missing', async (t) => {
  const row = (facts: AgentFacts, name: string) => judge(facts).find((one) => one.name === name)
  const ofDisk = { ...snapshot, source: 'disk', vouchedAtMs: now - 7_200_000 } as const
  t.match(row(withStatus({ snapshot: ofDisk }), 'snapshot'), { cause: /vouched .* 2 hours ago$/ })
  const unknown = { ...ofDisk, vouchedAtMs: 0 }
  t.notMatch(row(withStatus({ snapshot: unknown }), 'snapshot'), { cause: /vouched/ })
  const finding = (change: object) =>
    row(withStatus({ outageBudget: null, ...change }), 'outage-budget')?.finding
  t.equal(finding({}), 'this host has no view of the mesh yet')
  t.equal(finding({ trustDomain: '' }), 'this host has no certificate yet')
})

t.test(
  'instances-healthy tells what each instance lacks, and leaves a first check its time',
  async (t) => {
    const rowOf = (...changes: readonly Partial<ManifestReport>[]) => {
      const manifests = changes.map((change) => ({ ...manifest, ...change }) as ManifestReport)
      return judge({ ...healthyFacts, manifests }).find(({ name }) => name === 'instances-healthy')
    }
    const fresh = { health: 'starting', healthSinceMs: now - 9999 } as const
    t.match(rowOf(fresh), { verdict: 'ok' })
    const waits = { ...fresh, healthSinceMs: now - 180_000, healthDetail: 'not checked yet' }
    const port = { service: 'orders', portsDown: ['admin: ECONNREFUSED'] }
    t.match(rowOf(waits, port, {}), {
      finding: /^2 of 3 /,
      cause: 'web has no verdict for 3 minutes: not checked yet; orders: port admin: ECONNREFUSED',
    })
    const failing = { service: 'users', health: 'failing', healthDetail: 'refused' } as const
    t.match(rowOf(port, failing), {
      verdict: 'failed',
      finding: /^1 of 2 /,
      cause: 'users: refused; orders: port admin: ECONNREFUSED',
    })
  },
)

t.test('the fix of a refused certificate goes by its code', async (t) => {
  const fixOf = (check: string, code: string, hint = ''): string | undefined =>
    judge(certificates({}, { serial: '', notAfterMs: 0, problem: 'no', code, hint })).find(
      ({ name }) => name === check,
    )?.fix
  for (const check of ['certificate-renewal', 'service-certificates']) {
    t.match(fixOf(check, 'service-not-allowed'), /^meshctl token create alpha --service NAME/)
    t.equal(fixOf(check, 'controller-timeout'), 'see controller-reachable')
    t.match(fixOf(check, 'token-used'), "meshctl token create alpha --service '*'")
    t.equal(fixOf(check, 'state-unusable', 'free the disk'), 'free the disk')
    t.ok(fixOf(check, ''))
  }
  const ended = judge(certificates({ notAfterMs: now - 1 }))
  t.match(
    ended.find(({ name }) => name === 'host-certificate')?.fix,
    "meshctl token create alpha --service '*'",
  )
})

t.test('every check has a case here that fails it', async (t) => {
  t.same(new Set(cases.map(([check]) => check)), new Set(checkNames))
})

t.test('a directory that is not read is named beside files that are rejected', async (t) => {
  const manifestDirectory = { path: '/m', problem: 'a/ is not read', cause: 'a', fix: 'chmod' }
  const rejected = manifests({ verdict: 'rejected', problems: ['/m/web.json:1:2: no'] })
  const facts = { ...rejected, status: { ...rejected.status, manifestDirectory } }
  t.match(
    judge(facts).find(({ name }) => name === 'manifests'),
    { verdict: 'failed', cause: '/m/web.json:1:2: no\n/m: a/ is not read', fix: /; chmod$/ },
  )
})

t.test('of rejected manifests each is a line, and no more than can be read', async (t) => {
  const rejected = (count: number): AgentFacts => {
    const [good] = healthyFacts.manifests
    if (good === undefined) throw new Error('there is one')
    const manifests = Array.from({ length: count }, (_, n): ManifestReport => {
      const first = `/m/${n}.json:1:2: unknown key`
      const problems = n === 0 ? [first, `/m/0.json:2:2: ${'x'.repeat(500)}`] : [first]
      return { ...good, file: `/m/${n}.json`, verdict: 'rejected', problems }
    })
    return { ...healthyFacts, manifests }
  }
  const causeOf = (facts: AgentFacts): readonly string[] | undefined =>
    judge(facts)
      .find(({ name }) => name === 'manifests')
      ?.cause.split('\n')
  t.same(causeOf(rejected(2)), [
    '/m/0.json:1:2: unknown key (and 1 more in this file)',
    '/m/1.json:1:2: unknown key',
  ])
  const many = causeOf(rejected(40))
  t.equal(many?.length, 11)
  t.equal(many?.at(-1), 'and 30 more: meshctl manifest status')
  const long = manifests({ verdict: 'rejected', problems: ['x'.repeat(5000)] })
  t.equal(causeOf(long)?.join('').length, 300)
})
