/** Owns what an agent says of a host on which everything is well; a test bends one part. */

import { AgentMetrics, type AgentMetricsParts } from '#agent/agent-metrics.ts'
import { AgentReport, type AgentReportParts } from '#agent/agent-report.ts'
import type { AgentConfig } from '#agent/config.ts'
import type { InstanceHealth } from '#agent/health/check-rules.ts'
import type { Verdict } from '#agent/manifests/receipt.ts'
import { OwnServiceReport, type OwnServiceReportParts } from '#agent/own-service-report.ts'
import type { CredentialMessage } from '#agent/workers/messages.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { hostId, serviceId } from '#shared/model/spiffe-id.ts'
import type { Publication } from '#shared/store/own-keys.ts'
import { healthyFacts } from './agent-facts.ts'
import { manifestOf } from './manifests.ts'
import { instanceOf } from './mesh-records.ts'
import { self, snapshotOf, trustDomain } from './snapshots.ts'

/** The clock of the host. */
export const now = Date.UTC(2026, 0, 2)
/** The service it runs. */
export const orders = must(parseServiceName('orders'))
const config = {
  host: self,
  zone: 'z1',
  address: '10.0.0.1',
  controllers: ['10.0.0.9:15010'],
  paths: { manifests: '/etc/mesh.d' },
} as unknown as AgentConfig
/** The service's manifest. */
export const manifest = manifestOf({ port: 8080, upstreams: { files: 9001 } })
const verdict: Verdict = {
  path: manifest.file,
  user: null,
  verdict: 'accepted',
  manifest,
  problems: [],
  hash: 'abc',
  judgedAtMs: now,
}
const passing: InstanceHealth = {
  state: 'passing',
  detail: 'status 200',
  checks: [{ name: 'http', state: 'passing', detail: 'status 200' }],
}
/** A worker that takes connections. */
export const worker = {
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
/** Its own credential. */
export const hostCredential = credential(hostId(trustDomain, self), now + 1000)
const ordersCredential = credential(serviceId(trustDomain, orders), now + 500)
const finding = { speech: 'http/1.1', keepAliveMs: 5000 } as const
const offered = instanceOf('orders', self)

type MembershipOf<Parts extends { readonly membership: () => unknown }> = NonNullable<
  ReturnType<Parts['membership']>
>
/** What is known of the mesh by a host that has enrolled. */
export type Membership = MembershipOf<OwnServiceReportParts> &
  MembershipOf<AgentReportParts> &
  MembershipOf<AgentMetricsParts>

type RoomsOf<Parts> = Omit<Parts, 'membership' | 'own' | 'report'>
type Rooms = RoomsOf<OwnServiceReportParts> & RoomsOf<AgentReportParts> & RoomsOf<AgentMetricsParts>
type HostParts = Rooms & { readonly membership: () => Membership | null }

/** What differs from a host on which everything is well. */
export type Bent = Partial<Rooms> & {
  readonly link?: Partial<Membership['link']>
  readonly discovery?: Partial<Membership['discovery']>
  /** It has not enrolled. */
  readonly isAlone?: boolean
}

/** What the agent of such a host says. */
export function agentReports(bent: Bent = {}): {
  readonly own: OwnServiceReport
  readonly report: AgentReport
  readonly metrics: AgentMetrics
} {
  const { link, discovery, isAlone = false, ...parts } = bent
  const stored: Publication = { kind: 'stored', revision: 12 }
  const membership: Membership = {
    link: {
      state: { kind: 'connected', since: 0, revision: 9 },
      publication: () => stored,
      sessions: { listed: 1, resumed: 0 },
      ...link,
    },
    discovery: {
      snapshot: snapshotOf([
        { service: 'orders', host: self },
        { service: 'orders', host: 'beta' },
      ]),
      source: 'store',
      vouchedAtMs: now,
      hostsKept: [],
      problems: new Map([['/mesh/v1/x', 'no JSON']]),
      ...discovery,
    },
    onDemand: { isOn: true, inUse: 2, counts: new Map([['found', 3]]) },
  }
  const all: HostParts = {
    clock: { now: () => now },
    keeper: {
      host: hostCredential,
      mesh: { trustDomain } as never,
      credentials: [hostCredential, ordersCredential],
      credentialOf: () => ordersCredential,
      problems: [],
      contact: { kind: 'up', atMs: now },
    },
    controller: { current: '10.0.0.9:15010' },
    watcher: {
      verdicts: [verdict],
      of: () => ({ kind: 'not-needed' }),
      manifests: [manifest],
      directoryFault: { problem: 'cannot be read (EACCES)', cause: 'a', fix: 'b' },
    },
    dns: () => new Map([['answered', 3]]),
    policies: () => healthyFacts.policies,
    explainer: { answer: () => ({ kind: 'bad-question', problem: 'none' }) },
    health: {
      statusOf: () => passing,
      sinceMs: () => now - 2000,
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
      findingOf: () => finding,
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
    externals: { report: () => [], warningsOf: () => [] },
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
  }
  const own = new OwnServiceReport(all)
  const report = new AgentReport({ ...all, own }, { config, version: '1.2.3', pid: 42 })
  const metrics = new AgentMetrics({ ...all, report })
  return { own, report, metrics }
}
