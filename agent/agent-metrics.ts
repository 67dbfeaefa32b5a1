/**
 * Owns the agent's metrics page: the series of its workers, and beside them what the control process and
 * the kernel count. It changes nothing.
 */

import type { MetricsSource } from './admin/admin-source.ts'
import type { AgentReport } from './agent-report.ts'
import type { Discovery } from './discovery/discovery.ts'
import type { OnDemand } from './discovery/on-demand.ts'
import type { DnsOutcome } from './dns/responder.ts'
import type { ExternalServices } from './external/external-services.ts'
import { isUp } from './health/check-rules.ts'
import type { HealthBoard } from './health/health-board.ts'
import type { IdentityKeeper } from './identity/identity-keeper.ts'
import type { TrustKeeper } from './identity/trust-keeper.ts'
import type { Interception } from './interception/interception.ts'
import type { Clock } from './platform.ts'
import type { ProtectedManifests } from './policies/protected-manifests.ts'
import type { WorkerHub } from './workers/worker-hub.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import { renderMetrics, type MetricSeries } from '#shared/metrics/registry.ts'
import type { StatusReport } from '#shared/model/admin.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { TrustEpochs } from '#shared/model/trust.ts'
import type { StoreLink } from '#shared/store/link.ts'

/** The rooms it asks. */
export interface AgentMetricsParts {
  readonly clock: Pick<Clock, 'now'>
  readonly report: Pick<AgentReport, 'status' | 'readiness'>
  readonly keeper: Pick<IdentityKeeper, 'credentials'>
  readonly watcher: Pick<ProtectedManifests, 'verdicts' | 'manifests'>
  readonly health: Pick<HealthBoard, 'statusOf' | 'changes'>
  readonly hub: Pick<WorkerHub, 'workers' | 'crashes' | 'collect'>
  readonly interception: Pick<Interception, 'counts'>
  readonly externals: Pick<ExternalServices, 'report'>
  /** How many DNS questions ended how. */
  readonly dns: () => ReadonlyMap<DnsOutcome, number>
  /** What all workers act on. */
  readonly trust: () => TrustEpochs
  readonly trustRecords: Pick<TrustKeeper, 'trust' | 'series'>
  /** Null until the host has enrolled. */
  readonly membership: () => {
    readonly link: Pick<StoreLink, 'state' | 'sessions'>
    readonly onDemand: Pick<OnDemand, 'counts'>
    readonly discovery: Pick<Discovery, 'vouchedAtMs' | 'hostsKept'>
  } | null
}

/** See the header. */
export class AgentMetrics implements MetricsSource {
  readonly #parts: AgentMetricsParts

  constructor(parts: AgentMetricsParts) {
    this.#parts = parts
  }

  readiness(): { readonly ready: boolean; readonly waitsFor: string } {
    return this.#parts.report.readiness()
  }

  async metricsText(): Promise<string> {
    const { hub, interception } = this.#parts
    const { series, carried } = await hub.collect()
    const counts = await interception.counts()
    const status = this.#parts.report.status()
    return renderMetrics(Object.values(agentMetrics), [
      ...series,
      ...perService(agentMetrics.instanceCallsOpen, carried ?? []),
      ...this.#viewSeries(status),
      ...this.#outageSeries(status),
      ...this.#trustSeries(),
      ...this.#ownServiceSeries(),
      one(agentMetrics.captureDestinations, status.capture.destinations),
      one(agentMetrics.captureBypasses, status.capture.bypasses.length),
      ...perService(agentMetrics.plaintext, counts.plaintext),
      ...perService(agentMetrics.egressRefused, counts.egressRefused),
      one(agentMetrics.workers, hub.workers.length),
      one(agentMetrics.workerCrashes, hub.crashes),
      ...Array.from(this.#parts.dns(), ([outcome, count]) =>
        one(agentMetrics.dnsQueries, count, { outcome }),
      ),
    ])
  }

  /** What of the mesh is known here. */
  #viewSeries({ snapshot, store }: StatusReport): readonly MetricSeries[] {
    const membership = this.#parts.membership()
    const lookups = membership?.onDemand.counts ?? []
    const sessions = membership?.link.sessions ?? { listed: 0, resumed: 0 }
    return [
      one(agentMetrics.snapshotRevision, snapshot.revision),
      one(agentMetrics.storeConnected, store.kind === 'up' ? 1 : 0),
      ...Object.entries(sessions).map(([began, count]) =>
        one(agentMetrics.storeSessions, count, { began }),
      ),
      one(agentMetrics.instancesKnown, snapshot.instances),
      one(agentMetrics.discoveryOnDemand, snapshot.of === 'whole-mesh' ? 0 : 1),
      one(agentMetrics.servicesInUse, snapshot.inUse),
      ...Array.from(lookups, ([result, count]) =>
        one(agentMetrics.serviceLookups, count, { result }),
      ),
    ]
  }

  /** How old the view is and how long it would do. */
  #outageSeries({ outageBudget }: StatusReport): readonly MetricSeries[] {
    const { vouchedAtMs = 0, hostsKept = [] } = this.#parts.membership()?.discovery ?? {}
    const ageMs = Math.max(0, this.#parts.clock.now() - vouchedAtMs)
    return [
      ...(vouchedAtMs === 0 ? [] : [one(agentMetrics.viewAge, ageMs / 1000)]),
      one(agentMetrics.outageBudget, (outageBudget?.ms ?? 0) / 1000),
      one(agentMetrics.hostsKept, hostsKept.length),
    ]
  }

  /** Whom this host trusts, and who it can prove to be. */
  #trustSeries(): readonly MetricSeries[] {
    const { trust, trustRecords, keeper } = this.#parts
    const { bundle, bans } = trust()
    const policies = trustRecords.trust?.epochs.policies ?? 0
    return [
      one(agentMetrics.trustEpoch, bundle, { record: 'bundle' }),
      one(agentMetrics.trustEpoch, bans, { record: 'bans' }),
      one(agentMetrics.trustEpoch, policies, { record: 'policies' }),
      ...trustRecords.series,
      ...keeper.credentials.map(({ id, notAfterMs }) =>
        one(agentMetrics.certificateExpiry, notAfterMs / 1000, { identity: id }),
      ),
    ]
  }

  /** What the manifests of this host ask for, and how it fares. */
  #ownServiceSeries(): readonly MetricSeries[] {
    const { watcher, health, externals } = this.#parts
    const { verdicts, manifests } = watcher
    const isHealthy = (service: ServiceName): boolean =>
      isUp(health.statusOf(service)?.state ?? 'failing')
    return [
      ...(['accepted', 'rejected'] as const).map((verdict) =>
        one(agentMetrics.manifests, verdicts.filter((each) => each.verdict === verdict).length, {
          verdict,
        }),
      ),
      ...manifests
        .filter(({ port }) => port !== undefined)
        .map(({ service }) => one(agentMetrics.healthy, isHealthy(service) ? 1 : 0, { service })),
      ...health.changes.map(({ service, state, count }) =>
        one(agentMetrics.healthChanges, count, { service, state }),
      ),
      ...externals
        .report()
        .map(({ service, endpoints }) =>
          one(agentMetrics.externalAddresses, endpoints.length, { service }),
        ),
    ]
  }
}

function one(
  { name: metric }: { readonly name: string },
  value: number,
  labels: MetricSeries['labels'] = {},
): MetricSeries {
  return { metric, labels, value }
}

function perService(
  metric: { readonly name: string },
  counts: Iterable<readonly [string, number]>,
): readonly MetricSeries[] {
  return Array.from(counts, ([service, value]) => one(metric, value, { service }))
}
