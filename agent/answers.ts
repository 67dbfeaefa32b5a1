/**
 * Composition of what this agent tells and is told: its report, the admin socket with its commands, the
 * API for applications, the metrics page and the receipts. It looks, and hands commands on.
 */

import { AdminServer } from './admin/admin-server.ts'
import { Applications } from './admin/applications.ts'
import { MetricsServer } from './admin/metrics-server.ts'
import { AgentMetrics } from './agent-metrics.ts'
import { AgentReport } from './agent-report.ts'
import type { AgentConfig } from './config.ts'
import { bringHealth } from './health/bring-health.ts'
import type { HostIdentity } from './identity/host-identity.ts'
import { setBypass, setCapture, type CaptureCommandParts } from './interception/capture-commands.ts'
import type { HostCapture } from './interception/host-capture.ts'
import { Receipts } from './manifests/receipts.ts'
import type { MeshNames } from './mesh-names.ts'
import type { MeshView } from './mesh-view.ts'
import { OwnServiceReport } from './own-service-report.ts'
import type { OwnServices } from './own-services.ts'
import type { Clock, Random } from './platform.ts'
import { Explainer } from './policies/explainer.ts'
import { setRotation } from './registration/rotation-commands.ts'
import { reloadCommand, type ReloadCommandParts } from './reload-command.ts'
import { whyCommand } from './why-command.ts'
import { applicationSocketPath } from './workers/socket-path.ts'
import type { WorkerHub } from './workers/worker-hub.ts'
import { Gathering } from '#shared/lifecycle/gathering.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ServiceName, TrustDomain } from '#shared/model/names.ts'

/** What is told, and who carries commands out. */
export interface AnswersParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly pid: number
  readonly version: string
  readonly hub: WorkerHub
  readonly identity: HostIdentity
  readonly capture: HostCapture
  readonly own: OwnServices
  readonly view: MeshView
  readonly names: MeshNames
  readonly reload: Omit<ReloadCommandParts, 'logger'>
}

/** See the header. */
export class Answers {
  /** Reads the config again; a wrong one is logged and changes nothing. */
  readonly reload: ReturnType<typeof reloadCommand>
  readonly admin: AdminServer
  readonly applications: Applications
  readonly metrics: MetricsServer
  readonly #parts: AnswersParts
  readonly #ownReport: OwnServiceReport
  readonly #report: AgentReport
  readonly #receipts: Receipts
  readonly #receiptsChanged: Gathering
  /** What nobody has told of is found by a look at all of them. */
  readonly #allReceipts: Gathering
  /** Services whose receipts may tell something else now. */
  #toTell = new Set<ServiceName>()

  constructor(parts: AnswersParts, config: AgentConfig) {
    const { clock, logger, own, view } = parts
    const { paths, listen, host, zone } = config
    this.#parts = parts
    this.#ownReport = makeOwnReport(parts)
    this.#report = makeReport(parts, this.#ownReport, config)
    this.reload = reloadCommand({ logger, ...parts.reload }, { started: config })
    this.#receipts = new Receipts(parts, { runDirectory: paths.run })
    this.#receiptsChanged = new Gathering(
      { clock, run: () => this.#showChanged() },
      { gatherMs: 20, restShare: 9 },
    )
    this.#allReceipts = new Gathering({ clock, run: () => this.showReceipts() }, { gatherMs: 1000 })
    this.admin = this.#makeAdmin(config)
    this.applications = new Applications(
      {
        clock,
        logger,
        services: () => this.#report.services(),
        lookUp: async (service) => (view.isOnDemand ? view.lookUp(service) : 'unknown'),
        use: (services) => view.use(services),
        host: () => ({ host, zone, ready: this.#report.readiness().ready }),
        bringHealth: (input) => bringHealth(own.health, input),
      },
      { socketPath: applicationSocketPath(paths.run), ...listen.applications },
    )
    const source = makeMetrics(parts, this.#report)
    this.metrics = new MetricsServer({ source, logger }, listen.metrics)
  }

  /**
   * Something that receipts tell may have changed: of these services, and of those that are on their way
   * into the mesh, it is told at once, of all others within a second. A host may have a thousand.
   */
  askForReceipts(services: Iterable<ServiceName> = []): void {
    for (const service of services) this.#toTell.add(service)
    this.#receiptsChanged.ask()
    this.#allReceipts.ask()
  }

  /** Brings the receipts up to date at once. */
  showReceipts(): void {
    const { verdicts } = this.#parts.own.policies.manifests
    this.#toTell.clear()
    this.#receipts.show(verdicts, ({ manifest }) => this.#ownReport.receiptFacts(manifest))
  }

  #showChanged(): void {
    const { verdicts } = this.#parts.own.policies.manifests
    const some = this.#toTell
    this.#toTell = new Set()
    this.#receipts.show(
      verdicts,
      ({ manifest }) => this.#ownReport.receiptFacts(manifest),
      ({ manifest }) => manifest !== null && some.has(manifest.service),
    )
  }

  /** No receipt changes by itself any more. */
  quiet(): void {
    this.#receiptsChanged.stop()
    this.#allReceipts.stop()
  }

  /** Nobody is answered any more. */
  async close(): Promise<void> {
    await Promise.all([this.admin.stop(), this.applications.stop(), this.metrics.stop()])
  }

  /** Ends the receipts; before a restart they stay, like all that is published. */
  async stop({ leave }: { readonly leave: boolean }): Promise<void> {
    // Nothing is in force any more.
    if (leave) this.#receipts.show([], () => ({}))
    await this.#receipts.stop()
  }

  #makeAdmin({ host, paths, inboundSource }: AgentConfig): AdminServer {
    const { logger, identity, own, view } = this.#parts
    const captured = this.#captureParts()
    return new AdminServer(
      {
        source: this.#report,
        commands: {
          reload: this.reload,
          health: (input) => bringHealth(own.health, input),
          why: whyCommand(
            {
              ...this.#parts,
              report: this.#report,
              withheld: (service) => this.#ownReport.withheld(service),
              identity,
              snapshot: () => view.snapshot,
              lookUp: (service) => view.lookUp(service),
            },
            { source: inboundSource },
          ),
          rotation: (input) =>
            setRotation(
              { withdrawals: own.withdrawals, served: () => own.served },
              { host },
              input,
            ),
          capture: (input) => setCapture(captured, input),
          bypass: (input) => setBypass(captured, input),
        },
        logger,
      },
      { socketPath: `${paths.run}/agent.sock` },
    )
  }

  #captureParts(): CaptureCommandParts {
    const { clock, capture, own, view } = this.#parts
    const { lifts, interception } = capture
    const isKnown = (service: ServiceName): boolean =>
      view.hostsOf(service).length > 0 ||
      own.served.includes(service) ||
      own.externals.views.some(({ name }) => name === service)
    return { clock, lifts, interception, isKnown }
  }
}

function makeOwnReport({ identity, own, view }: AnswersParts): OwnServiceReport {
  const { health, detector, externals, registrar, policies } = own
  const { keeper } = identity
  const { manifests: watcher } = policies
  const membership = () => view.membership
  return new OwnServiceReport({
    keeper,
    watcher,
    health,
    detector,
    externals,
    registrar,
    membership,
  })
}

function makeMetrics(parts: AnswersParts, report: AgentReport): AgentMetrics {
  const { clock, hub, identity, capture, own, view, names } = parts
  const { keeper, reporter, trust: trustRecords } = identity
  return new AgentMetrics({
    clock,
    report,
    keeper,
    watcher: own.policies.manifests,
    health: own.health,
    externals: own.externals,
    hub,
    interception: capture.interception,
    dns: () => names.counts,
    trust: () => reporter.epochs,
    trustRecords,
    membership: () => view.membership,
  })
}

function makeReport(
  parts: AnswersParts,
  ownReport: OwnServiceReport,
  config: AgentConfig,
): AgentReport {
  const { clock, version, pid, hub, identity, capture, own, view } = parts
  const { registrar, withdrawals, externals, policies } = own
  const { interception, lifts, locals } = capture
  const { keeper, controller } = identity
  const trustDomain = (): TrustDomain | null => keeper.mesh?.trustDomain ?? null
  return new AgentReport(
    {
      clock,
      keeper,
      controller,
      watcher: policies.manifests,
      policies: () => policies.report(trustDomain()),
      explainer: new Explainer({
        trustDomain,
        local: () => [
          ...externals.views.map(({ name, port, protocol }) => ({
            service: name,
            port,
            protocol,
            isOutside: true,
          })),
          ...registrar.offer.local,
        ],
        policyOf: (service) => policies.of(service),
        hostsOf: (service) => view.hostsOf(service),
        isHost: (name) => Object.hasOwn(view.snapshot?.hosts ?? {}, name),
      }),
      own: ownReport,
      registrar,
      withdrawals,
      hub,
      interception,
      externals,
      lifts,
      locals,
      membership: () => view.membership,
    },
    { config, version, pid },
  )
}
