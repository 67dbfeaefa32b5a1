/**
 * Owns what the agent says of itself: gathers facts from the rooms for the admin socket. It changes
 * nothing and judges nothing. What it says of the services of its own host is in
 * `own-service-report.ts`, what it counts in `agent-metrics.ts`.
 */

import type { AdminSource } from './admin/admin-source.ts'
import { machineReport } from './admin/machine-report.ts'
import type { AgentConfig } from './config.ts'
import type { Discovery } from './discovery/discovery.ts'
import type { OnDemand } from './discovery/on-demand.ts'
import type { ExternalServices } from './external/external-services.ts'
import type { GrpcControllerPort } from './identity/controller-port.ts'
import type { IdentityKeeper } from './identity/identity-keeper.ts'
import type { Interception } from './interception/interception.ts'
import type { CaptureLifts } from './interception/lifts.ts'
import type { LocalServices } from './interception/local-services.ts'
import type { OwnServiceReport } from './own-service-report.ts'
import type { Clock } from './platform.ts'
import type { Explainer } from './policies/explainer.ts'
import type { ProtectedManifests } from './policies/protected-manifests.ts'
import type { Registrar } from './registration/registrar.ts'
import type { Withdrawals } from './registration/withdrawals.ts'
import { generationsReport } from './workers/generations-report.ts'
import type { WorkerHub } from './workers/worker-hub.ts'
import { X509Certificate } from 'node:crypto'
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
import type { ServiceName } from '#shared/model/names.ts'
import { hostId, serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { targetName, type TargetName } from '#shared/model/target.ts'
import type { StoreLink } from '#shared/store/link.ts'

/** The rooms it asks. */
export interface AgentReportParts {
  readonly clock: Pick<Clock, 'now'>
  readonly keeper: Pick<IdentityKeeper, 'host' | 'mesh' | 'credentials' | 'problems' | 'contact'>
  readonly controller: Pick<GrpcControllerPort, 'current'>
  readonly watcher: Pick<ProtectedManifests, 'directoryFault'>
  readonly policies: () => PoliciesReport
  readonly explainer: Pick<Explainer, 'answer'>
  readonly own: Pick<OwnServiceReport, 'manifests'>
  readonly registrar: Pick<Registrar, 'offer'>
  readonly withdrawals: Pick<Withdrawals, 'host'>
  readonly hub: Pick<WorkerHub, 'workers' | 'collect' | 'retireMs' | 'wanted' | 'back'>
  readonly interception: Pick<Interception, 'status' | 'plan' | 'explain' | 'isConfining'>
  readonly externals: Pick<ExternalServices, 'report'>
  readonly lifts: Pick<CaptureLifts, 'whole' | 'bypasses'>
  readonly locals: Pick<LocalServices, 'services'>
  /** Null until the host has enrolled. */
  readonly membership: () => {
    readonly link: Pick<StoreLink, 'state'>
    readonly onDemand: Pick<OnDemand, 'isOn' | 'inUse'>
    readonly discovery: Pick<
      Discovery,
      'snapshot' | 'source' | 'vouchedAtMs' | 'hostsKept' | 'problems'
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

const noProblem: Pick<CertificateReport, 'problem' | 'code' | 'hint'> = {
  problem: '',
  code: '',
  hint: '',
}

/** See the header. */
export class AgentReport implements AdminSource {
  readonly #parts: AgentReportParts
  readonly #settings: AgentReportSettings
  readonly #startedAtMs: number

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
        vouchedAtMs: membership?.discovery.vouchedAtMs ?? 0,
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
        ...this.#parts.watcher.directoryFault,
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
      callers: locals.services.map(({ service, user, unit, problem, at, inbound }) => ({
        service,
        user,
        unit: unit?.name ?? null,
        problem,
        inbound: at === null ? 'none' : inbound,
      })),
      destinations: status.kind === 'on' ? (plan?.state.destinations.length ?? 0) : 0,
      egress: interception.isConfining ? 'registry-only' : 'allow-any',
      problems: plan?.problems ?? [],
      limit: plan?.limit ?? '',
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
    return this.#parts.own.manifests()
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

  /** Until its first certificate ends a host needs nobody, once what it has to know is on its disk. */
  #outageBudget(): StatusReport['outageBudget'] {
    const { clock, keeper } = this.#parts
    const { source = 'none' } = this.#parts.membership()?.discovery ?? {}
    const [first, ...rest] = keeper.credentials
    if (first === undefined || source === 'none') return null
    const { id, notAfterMs } = rest.reduce((a, b) => (b.notAfterMs < a.notAfterMs ? b : a), first)
    return { ms: Math.max(0, notAfterMs - clock.now()), endsFirst: id }
  }
}
