/**
 * Owns what the agent says of itself: gathers facts from the rooms for the admin socket, the metrics
 * page and the receipts. It changes nothing and judges nothing. Longer than most: every room is asked
 * here.
 */

import type { AdminSource, MetricsSource } from './admin/admin-source.ts'
import { machineReport } from './admin/machine-report.ts'
import type { AgentConfig } from './config.ts'
import type { Detector } from './detection/detector.ts'
import type { Discovery } from './discovery/discovery.ts'
import type { OnDemand } from './discovery/on-demand.ts'
import { isUp } from './health/check-rules.ts'
import type { HealthBoard } from './health/health-board.ts'
import type { GrpcControllerPort } from './identity/controller-port.ts'
import type { TrustKeeper } from './identity/trust-keeper.ts'
import type { IdentityKeeper } from './identity/identity-keeper.ts'
import type { ReceiptFacts } from './manifests/receipt.ts'
import type { DnsOutcome } from './dns/responder.ts'
import type { ExternalServices } from './external/external-services.ts'
import type { Interception } from './interception/interception.ts'
import type { CaptureLifts } from './interception/lifts.ts'
import type { LocalServices } from './interception/local-services.ts'
import type { Clock } from './platform.ts'
import type { Explainer } from './policies/explainer.ts'
import type { ProtectedManifests } from './policies/protected-manifests.ts'
import type { Registrar } from './registration/registrar.ts'
import type { Withdrawals } from './registration/withdrawals.ts'
import { generationsReport } from './workers/generations-report.ts'
import type { WorkerHub } from './workers/worker-hub.ts'
import { X509Certificate } from 'node:crypto'
import { agentMetrics } from '#shared/metrics/names.ts'
import { renderMetrics, type MetricSeries } from '#shared/metrics/registry.ts'
import type { CaptureExplanation, CaptureReport } from '#shared/model/admin-capture.ts'
import type { AuthzAnswer, PoliciesReport } from '#shared/model/admin-policies.ts'
import type { ExternalReport, ManifestReport, ServiceReport } from '#shared/model/admin-services.ts'
import type { GenerationReport } from '#shared/model/admin-workers.ts'
import type {
  CertificateReport,
  Contact,
  MachineReport,
  StatusReport,
} from '#shared/model/admin.ts'
import type { ExternalView } from '#shared/model/external.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { InstanceRecord } from '#shared/model/records.ts'
import { hostId, serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { targetName, type TargetName } from '#shared/model/target.ts'
import type { TrustEpochs } from '#shared/model/trust.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import { instanceKey } from '#shared/store/keys.ts'
import type { StoreLink } from '#shared/store/link.ts'

/** The rooms it asks. */
export interface AgentReportParts {
  readonly clock: Pick<Clock, 'now'>
  readonly keeper: Pick<
    IdentityKeeper,
    'host' | 'mesh' | 'credentials' | 'credentialOf' | 'problems' | 'contact'
  >
  readonly controller: Pick<GrpcControllerPort, 'current'>
  readonly watcher: Pick<ProtectedManifests, 'verdicts' | 'manifests' | 'directoryProblem'>
  readonly policies: () => PoliciesReport
  readonly explainer: Pick<Explainer, 'answer'>
  readonly health: Pick<HealthBoard, 'statusOf' | 'changes'>
  readonly detector: Pick<Detector, 'findingOf' | 'mismatchOf'>
  readonly registrar: Pick<Registrar, 'offer' | 'offeredOf' | 'withheld' | 'rotation' | 'openTo'>
  readonly withdrawals: Pick<Withdrawals, 'host'>
  readonly hub: Pick<WorkerHub, 'workers' | 'crashes' | 'collect' | 'retireMs' | 'wanted' | 'back'>
  readonly interception: Pick<
    Interception,
    'status' | 'plan' | 'counts' | 'explain' | 'isConfining'
  >
  readonly externals: Pick<ExternalServices, 'report'>
  readonly lifts: Pick<CaptureLifts, 'whole' | 'bypasses'>
  /** How many DNS questions ended how. */
  readonly dns: () => ReadonlyMap<DnsOutcome, number>
  readonly locals: Pick<LocalServices, 'services'>
  /** What all workers act on. */
  readonly trust: () => TrustEpochs
  readonly trustRecords: Pick<TrustKeeper, 'trust' | 'series'>
  /** Null until the host has enrolled. */
  readonly membership: () => {
    readonly link: Pick<StoreLink, 'state' | 'publication'>
    readonly onDemand: Pick<OnDemand, 'isOn' | 'inUse' | 'counts'>
    readonly discovery: Pick<
      Discovery,
      'snapshot' | 'source' | 'builtAtMs' | 'vouchedAtMs' | 'hostsKept' | 'problems'
    >
  } | null
}

/** Settings of a report. */
export interface AgentReportSettings {
  readonly config: AgentConfig
  readonly version: string
  readonly pid: number
}

/** Of the store's records, in the status. */
const mostProblems = 10

const withheldWords = {
  drained: 'it was taken out of rotation (meshctl undrain)',
  'no-certificate': 'it has no certificate that is valid (meshctl check)',
  'not-healthy': 'its health check does not pass',
  'not-asked': 'it has not told yet how it speaks',
  'no-tunnel': 'no worker takes tunnels yet',
} as const

const noProblem: Pick<CertificateReport, 'problem' | 'code' | 'hint'> = {
  problem: '',
  code: '',
  hint: '',
}

/** See the header. */
export class AgentReport implements AdminSource, MetricsSource {
  readonly #parts: AgentReportParts
  readonly #settings: AgentReportSettings
  readonly #startedAtMs: number

  /** What was told last, and what it was made of. */
  readonly #receiptFacts = new WeakMap<
    Manifest,
    { readonly of: readonly unknown[]; readonly facts: ReceiptFacts }
  >()

  constructor(parts: AgentReportParts, settings: AgentReportSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#startedAtMs = parts.clock.now()
  }

  status(): StatusReport {
    const { clock, keeper, hub } = this.#parts
    const { config, version, pid } = this.#settings
    const membership = this.#parts.membership()
    const snapshot = membership?.discovery.snapshot
    const services = Object.values(snapshot?.services ?? {})
    return {
      host: config.host,
      zone: config.zone,
      address: config.address,
      trustDomain: keeper.mesh?.trustDomain ?? '',
      version,
      pid,
      startedAtMs: this.#startedAtMs,
      nowMs: clock.now(),
      ...this.readiness(),
      store: this.#storeContact(),
      outageBudget: this.#outageBudget(),
      controller: {
        address: this.#parts.controller.current,
        contact: keeper.contact,
      },
      snapshot: {
        revision: snapshot?.revision ?? 0,
        sequence: snapshot?.sequence ?? 0,
        builtAtMs: membership?.discovery.builtAtMs ?? 0,
        source: membership?.discovery.source ?? 'none',
        services: services.length,
        instances: services.reduce((sum, { instances }) => sum + instances.length, 0),
        hosts: Object.keys(snapshot?.hosts ?? {}).length,
        of: membership?.onDemand.isOn === true ? 'services-in-use' : 'whole-mesh',
        inUse: membership?.onDemand.inUse ?? 0,
        hostsKept: membership?.discovery.hostsKept ?? [],
        rejected: membership?.discovery.problems.size ?? 0,
        problems: [...(membership?.discovery.problems ?? [])]
          .slice(0, mostProblems)
          .map(([key, why]) => `${key}: ${why}`),
      },
      manifestDirectory: {
        path: config.paths.manifests,
        problem: this.#parts.watcher.directoryProblem,
      },
      capture: this.#capture(),
      workersWanted: hub.wanted,
      workers: hub.workers
        .toSorted((a, b) => a.generation - b.generation || a.index - b.index)
        .map(({ generation, index, pid, protocol, version, phase, ...state }) => ({
          generation,
          index,
          pid,
          protocol,
          version,
          phase,
          applied: state.applied,
          crashes: state.crashes,
          trust: state.trust,
          ...state.listening,
        })),
      maintenance: this.#parts.withdrawals.host,
      facts: this.#parts.registrar.offer.presence?.facts ?? {},
    }
  }

  #capture(): CaptureReport {
    const { interception, locals, lifts } = this.#parts
    const { status, plan } = interception
    return {
      kind: status.kind,
      reason: status.kind === 'on' ? '' : status.reason,
      hint: status.kind === 'failed' ? status.hint : '',
      callers: locals.services.map(({ service, user, unit, problem, inbound }) => ({
        service,
        user,
        unit: unit?.name ?? null,
        problem,
        inbound,
      })),
      destinations: status.kind === 'on' ? (plan?.state.destinations.length ?? 0) : 0,
      egress: interception.isConfining ? 'registry-only' : 'allow-any',
      problems: plan?.problems ?? [],
      lifted: lifts.whole,
      bypasses: lifts.bypasses,
    }
  }

  services(): readonly ServiceReport[] {
    const snapshot = this.#parts.membership()?.discovery.snapshot
    if (snapshot === undefined) return []
    const { host } = snapshot
    const outside = (snapshot.external ?? []).map((one) => this.#outside(one, host))
    const names = new Set<string>(outside.map(({ name }) => name))
    const inside = Object.values(snapshot.services)
      .filter(({ name }) => !names.has(name))
      .map(({ name, protocol, ports = [], instances }) => ({
        name,
        protocol,
        addresses: this.#addressesOf(name),
        ports: ports.map((port) => ({
          ...port,
          addresses: this.#addressesOf(targetName(name, port.name)),
        })),
        instances: instances.map((instance) => ({ ...instance, local: instance.host === host })),
      }))
    return [...inside, ...outside].toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  external(): readonly ExternalReport[] {
    return this.#parts.externals.report()
  }

  #outside({ name, protocol, port, endpoints }: ExternalView, host: string): ServiceReport {
    return {
      name,
      protocol,
      addresses: this.#addressesOf(name),
      ports: [],
      instances: endpoints.map(({ id }) => ({ host, id, port, weight: 1, local: true })),
      outside: true,
    }
  }

  #addressesOf(target: TargetName): readonly string[] {
    const { status, plan } = this.#parts.interception
    const named = status.kind === 'on' ? plan?.names.get(target) : undefined
    if (named === undefined) return []
    return named.ipv6 === null ? [named.ipv4] : [named.ipv4, named.ipv6]
  }

  manifests(): readonly ManifestReport[] {
    return this.#parts.watcher.verdicts.map(({ path, verdict, manifest, problems }) => {
      const isServed = manifest?.port !== undefined
      const health = isServed ? this.#parts.health.statusOf(manifest.service) : null
      const publication = isServed ? this.#publication(manifest.service) : null
      return {
        file: path,
        service: manifest?.service ?? '',
        verdict,
        problems: problems.map(renderProblem),
        upstreams:
          manifest?.upstreams.map(({ service, portName = null }) =>
            targetName(service, portName),
          ) ?? [],
        requires: manifest?.requires ?? [],
        unit: manifest === null ? '' : unitOf(manifest),
        health: health?.state ?? 'none',
        healthDetail: health === null || health.state === 'passing' ? '' : health.detail,
        published: publication?.ok === true,
        withheld: publication?.detail ?? '',
        speech: isServed ? (this.#parts.detector.findingOf(manifest.service)?.speech ?? '') : '',
        mismatch: isServed ? this.#parts.detector.mismatchOf(manifest.service) : '',
        rotation: isServed ? this.#parts.registrar.rotation(manifest.service) : 'in',
        open: isServed ? this.#parts.registrar.openTo(manifest.service) : null,
        revision: publication?.revision ?? 0,
        certificateEndsMs: isServed
          ? (this.#parts.keeper.credentialOf(manifest.service)?.notAfterMs ?? 0)
          : 0,
      }
    })
  }

  certificates(): readonly CertificateReport[] {
    const { keeper } = this.#parts
    const held = keeper.credentials.map(({ id, serial, notAfterMs, chainPem }) => ({
      identity: id as string,
      serial,
      notBeforeMs: Date.parse(new X509Certificate(chainPem).validFrom),
      notAfterMs,
      ...noProblem,
    }))
    const byId = new Map(held.map((report) => [report.identity, report]))
    for (const { identity, message: problem, code, hint } of keeper.problems) {
      const id = this.#idOf(identity)
      const none = { identity: id, serial: '', notBeforeMs: 0, notAfterMs: 0, ...noProblem }
      byId.set(id, { ...(byId.get(id) ?? none), problem, code, hint })
    }
    return [...byId.values()]
  }

  policies(): PoliciesReport {
    return this.#parts.policies()
  }

  machine(): MachineReport {
    const { config } = this.#settings
    const { workers } = this.#parts.hub
    return machineReport({
      stateDirectory: config.paths.state,
      workers: workers.map(({ pid }) => pid),
      callersWanted: Math.ceil(config.maxConnections / config.workers),
    })
  }

  explain(query: URLSearchParams): AuthzAnswer {
    return this.#parts.explainer.answer(query)
  }

  async generations(): Promise<readonly GenerationReport[]> {
    const { hub } = this.#parts
    // A control process that has just started does not know yet who serves.
    await hub.back
    // For how much each still carries.
    await hub.collect()
    return generationsReport(hub.workers, hub)
  }

  explainCapture(query: URLSearchParams): Promise<CaptureExplanation> {
    return this.#parts.interception.explain(query)
  }

  readiness(): { readonly ready: boolean; readonly waitsFor: string } {
    const waitsFor = this.#waitsFor()
    return { ready: waitsFor === '', waitsFor }
  }

  async metricsText(): Promise<string> {
    const { series, carried } = await this.#parts.hub.collect()
    const capture = await this.#captureSeries()
    return renderMetrics(Object.values(agentMetrics), [
      ...series,
      ...Array.from(carried ?? [], ([service, value]) => ({
        metric: agentMetrics.instanceCallsOpen.name,
        labels: { service },
        value,
      })),
      ...this.#ownSeries(),
      ...capture,
    ])
  }

  /**
   * What a receipt tells of a manifest's service beside the verdict on its file; the same object for as
   * long as nothing of it changes, because a host may have a thousand and asks for all of them.
   */
  receiptFacts(manifest: Manifest): ReceiptFacts {
    const { health, registrar, detector, keeper } = this.#parts
    const { service } = manifest
    const { ok, detail, revision } = this.#publication(service)
    const of = [
      health.statusOf(service),
      detector.findingOf(service),
      detector.mismatchOf(service),
      registrar.offeredOf(service),
      keeper.credentialOf(service),
      ok,
      detail,
      revision,
    ] as const
    const known = this.#receiptFacts.get(manifest)
    if (known?.of.every((one, at) => one === of[at]) === true) return known.facts
    const [status, finding, mismatch, record, credential] = of
    const instances = record === null ? [] : [publishedOf(record)]
    const facts: ReceiptFacts = {
      ...(status === null ? {} : { health: status }),
      ...(finding === null ? {} : { found: { ...finding, mismatch } }),
      published: { ok, detail, revision, instances },
      ...(credential === null
        ? {}
        : {
            certificate: {
              spiffeId: credential.id,
              serial: credential.serial,
              notAfterMs: credential.notAfterMs,
            },
          }),
    }
    this.#receiptFacts.set(manifest, { of, facts })
    return facts
  }

  /** Why a service of this host is not offered to others; empty where it is. */
  withheld(service: ServiceName): string {
    return this.#publication(service).detail
  }

  #publication(service: ServiceName): {
    readonly ok: boolean
    readonly detail: string
    readonly revision: number
  } {
    const { registrar } = this.#parts
    const not = (detail: string) => ({ ok: false, detail, revision: 0 })
    const record = registrar.offeredOf(service)
    if (record === null) {
      const withheld = registrar.withheld(service)
      return not(withheld === null ? 'not offered yet' : withheldWords[withheld])
    }
    const link = this.#parts.membership()?.link
    if (link === undefined) return not('this host has not enrolled yet')
    const { state } = link
    if (state.kind === 'away') return not(`the store is away: ${state.reason}`)
    const publication = link.publication(instanceKey(service, record.host, record.id))
    switch (publication.kind) {
      case 'stored':
        return { ok: true, detail: '', revision: publication.revision }
      case 'refused':
        return not(`the store refuses it: ${publication.problem}`)
      case 'pending':
      case 'none':
        return not('on its way to the store')
    }
  }

  /** The first thing that is missing before traffic can flow. */
  #waitsFor(): string {
    const { clock, keeper, hub } = this.#parts
    const membership = this.#parts.membership()
    if (keeper.host === null) return 'enrolment: a join token and a controller that answers'
    if (keeper.host.notAfterMs <= clock.now()) {
      const ended = new Date(keeper.host.notAfterMs).toISOString()
      return `a new certificate: this host’s ended at ${ended}`
    }
    const snapshot = membership?.discovery.snapshot
    if (snapshot === undefined || membership?.discovery.source === 'none') {
      return 'the first view of the mesh from the store'
    }
    const { workers } = hub
    if (workers.length === 0) return 'a proxy worker'
    if (workers.every(({ applied }) => applied === 0)) return 'a worker to take the first view'
    if (workers.every(({ listening }) => listening.tunnelPort === 0)) {
      return 'a worker to listen for tunnels'
    }
    return ''
  }

  #storeContact(): Contact {
    const state = this.#parts.membership()?.link.state
    if (state === undefined) return { kind: 'unknown' }
    return state.kind === 'connected'
      ? { kind: 'up' }
      : { kind: 'down', sinceMs: state.since, reason: state.reason }
  }

  #idOf(identity: 'host' | ServiceName): SpiffeId | string {
    const trustDomain = this.#parts.keeper.mesh?.trustDomain
    const { host } = this.#settings.config
    if (trustDomain === undefined) {
      return identity === 'host'
        ? `spiffe://unknown/host/${host}`
        : `spiffe://unknown/service/${identity}`
    }
    return identity === 'host' ? hostId(trustDomain, host) : serviceId(trustDomain, identity)
  }

  /** What the kernel counts by itself. */
  async #captureSeries(): Promise<readonly MetricSeries[]> {
    const { plaintext, egressRefused } = await this.#parts.interception.counts()
    const counts = [
      [agentMetrics.plaintext.name, plaintext],
      [agentMetrics.egressRefused.name, egressRefused],
    ] as const
    return counts.flatMap(([metric, seen]) =>
      [...seen].map(([service, value]) => ({ metric, labels: { service }, value })),
    )
  }

  /** Until its first certificate ends a host needs nobody; what it has to know is on its disk. */
  #outageBudget(): StatusReport['outageBudget'] {
    const { clock, keeper } = this.#parts
    const [first, ...rest] = keeper.credentials
    if (first === undefined) return null
    const { id, notAfterMs } = rest.reduce((a, b) => (b.notAfterMs < a.notAfterMs ? b : a), first)
    return { ms: Math.max(0, notAfterMs - clock.now()), endsFirst: id }
  }

  /** How old the view is and how long it would do. */
  #outageSeries(): readonly MetricSeries[] {
    const { clock } = this.#parts
    const membership = this.#parts.membership()
    if (membership === null || membership.discovery.source === 'none') return []
    const now = clock.now()
    const { source, vouchedAtMs, hostsKept } = membership.discovery
    const { state } = membership.link
    const vouchedAt = source === 'store' ? Math.max(state.since, vouchedAtMs) : vouchedAtMs
    const gauge = (metric: string, value: number): MetricSeries => ({ metric, labels: {}, value })
    return [
      gauge(agentMetrics.viewAge.name, state.kind === 'connected' ? 0 : (now - vouchedAt) / 1000),
      gauge(agentMetrics.outageBudget.name, (this.#outageBudget()?.ms ?? 0) / 1000),
      gauge(agentMetrics.hostsKept.name, hostsKept.length),
    ]
  }

  #ownSeries(): readonly MetricSeries[] {
    const { keeper, watcher, health, hub, trustRecords } = this.#parts
    const status = this.status()
    const trust = this.#parts.trust()
    const one = (metric: string, value: number, labels = {}): MetricSeries => ({
      metric,
      labels,
      value,
    })
    const { verdicts, manifests } = watcher
    const count = (verdict: string): number =>
      verdicts.filter((one) => one.verdict === verdict).length
    return [
      one(agentMetrics.snapshotRevision.name, status.snapshot.revision),
      one(agentMetrics.trustEpoch.name, trust.bundle, { record: 'bundle' }),
      one(agentMetrics.trustEpoch.name, trust.bans, { record: 'bans' }),
      one(agentMetrics.trustEpoch.name, trustRecords.trust?.epochs.policies ?? 0, {
        record: 'policies',
      }),
      ...trustRecords.series,
      ...this.#outageSeries(),
      one(agentMetrics.storeConnected.name, status.store.kind === 'up' ? 1 : 0),
      one(agentMetrics.instancesKnown.name, status.snapshot.instances),
      one(agentMetrics.discoveryOnDemand.name, status.snapshot.of === 'whole-mesh' ? 0 : 1),
      one(agentMetrics.servicesInUse.name, status.snapshot.inUse),
      ...Array.from(this.#parts.membership()?.onDemand.counts ?? [], ([result, count]) =>
        one(agentMetrics.serviceLookups.name, count, { result }),
      ),
      one(agentMetrics.captureDestinations.name, status.capture.destinations),
      one(agentMetrics.captureBypasses.name, status.capture.bypasses.length),
      ...this.external().map(({ service, endpoints }) =>
        one(agentMetrics.externalAddresses.name, endpoints.length, { service }),
      ),
      one(agentMetrics.workers.name, hub.workers.length),
      ...Array.from(this.#parts.dns(), ([outcome, count]) =>
        one(agentMetrics.dnsQueries.name, count, { outcome }),
      ),
      one(agentMetrics.workerCrashes.name, hub.crashes),
      ...['accepted', 'rejected'].map((verdict) =>
        one(agentMetrics.manifests.name, count(verdict), { verdict }),
      ),
      ...health.changes.map(({ service, state, count }) =>
        one(agentMetrics.healthChanges.name, count, { service, state }),
      ),
      ...keeper.credentials.map(({ id, notAfterMs }) =>
        one(agentMetrics.certificateExpiry.name, notAfterMs / 1000, { identity: id }),
      ),
      ...manifests.flatMap(({ service, port }) =>
        port === undefined
          ? []
          : one(
              agentMetrics.healthy.name,
              isUp(health.statusOf(service)?.state ?? 'failing') ? 1 : 0,
              {
                service,
              },
            ),
      ),
    ]
  }
}

function unitOf({ run, health }: Manifest): string {
  if (run?.kind === 'unit') return run.unit
  return health.find((check) => check.kind === 'systemd')?.unit ?? ''
}

function publishedOf({ host, id, port, ports, weight }: InstanceRecord) {
  return { host, id, port, ...(ports === undefined ? {} : { ports }), weight }
}
