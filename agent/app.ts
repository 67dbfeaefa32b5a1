/**
 * Composition root of the control process: manifests, health, identity, registration, discovery and
 * the workers' hub, wired together. It carries no traffic; when it ends, workers go on. Longer than
 * most: who is told of what by whom stands in one place.
 */

import { mkdirSync } from 'node:fs'
import { AdminServer } from './admin/admin-server.ts'
import { Applications } from './admin/applications.ts'
import { MetricsServer } from './admin/metrics-server.ts'
import { AgentReport } from './agent-report.ts'
import type { AgentConfig } from './config.ts'
import { Detector } from './detection/detector.ts'
import { HandOver } from './discovery/hand-over.ts'
import { listenersOf } from './discovery/listeners.ts'
import { Membership } from './discovery/membership.ts'
import { MeshDns } from './dns/mesh-dns.ts'
import { reloadResolved } from './dns/reload-resolved.ts'
import { WantedNames } from './dns/wanted-names.ts'
import { bringHealth } from './health/bring-health.ts'
import { isUp, stateOfPort } from './health/check-rules.ts'
import { ExternalServices } from './external/external-services.ts'
import { HealthBoard } from './health/health-board.ts'
import { HostIdentity } from './identity/host-identity.ts'
import { setBypass, setCapture, type CaptureCommandParts } from './interception/capture-commands.ts'
import { callerPortRange } from './interception/caller-ports.ts'
import { HostCapture } from './interception/host-capture.ts'
import { NameTargets } from './interception/name-targets.ts'
import { carriageNotes } from './manifests/carriage-notes.ts'
import { GoodVersions } from './manifests/good-versions.ts'
import type { ReceiptFacts, Verdict } from './manifests/receipt.ts'
import { Receipts } from './manifests/receipts.ts'
import type { OwnPlace } from './manifests/own-places.ts'
import { ManifestWatcher } from './manifests/watcher.ts'
import type { Clock, Random } from './platform.ts'
import { HostAsker } from './tunnel/host-asker.ts'
import { Explainer } from './policies/explainer.ts'
import { HostPolicies } from './policies/host-policies.ts'
import { PlainReach } from './policies/plain-reach.ts'
import { askHostFacts } from './registration/host-facts.ts'
import { OwnRecords } from './registration/own-records.ts'
import { Registrar } from './registration/registrar.ts'
import { setRotation } from './registration/rotation-commands.ts'
import { Withdrawals } from './registration/withdrawals.ts'
import { applicationSocketPath, workerSocketPath } from './workers/socket-path.ts'
import { reloadCommand, type ReloadCommandParts } from './reload-command.ts'
import { whyCommand } from './why-command.ts'
import type { NotFound } from './workers/messages.ts'
import { WorkerHub, type WorkerHubSettings } from './workers/worker-hub.ts'
import { isLocalAddress } from '#shared/http/local-address.ts'
import { Gathering } from '#shared/lifecycle/gathering.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { servedName, type Manifest } from '#shared/model/manifest.ts'
import {
  parsePort,
  type PortName,
  type ServiceName,
  type TrustDomain,
} from '#shared/model/names.ts'
import type { LocalInstance, Snapshot } from '#shared/model/snapshot.ts'
import { trustPrefix } from '#shared/store/keys.ts'

/** What the control process is made with. */
export interface AppParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly pid: number
  /** The user it runs as, workers too. */
  readonly user: number
  readonly version: string
  /** Reads the config again. */
  readonly reload: Pick<ReloadCommandParts, 'read' | 'begin'>
}

/** See the header. */
export class App {
  readonly #parts: AppParts
  readonly #config: AgentConfig
  readonly #hub: WorkerHub
  readonly #identity: HostIdentity
  readonly #versions: GoodVersions
  readonly #watcher: ManifestWatcher
  readonly #receipts: Receipts
  readonly #policies: HostPolicies
  readonly #health: HealthBoard
  readonly #detector: Detector
  readonly #withdrawals: Withdrawals
  readonly #records: OwnRecords
  readonly #registrar: Registrar
  readonly #capture: HostCapture
  readonly #externalNames: NameTargets
  readonly #externals: ExternalServices
  readonly #plainReach: PlainReach
  readonly #dns: MeshDns | null
  readonly #wantedNames: WantedNames
  readonly #handOver: HandOver
  readonly #report: AgentReport
  readonly #admin: AdminServer
  readonly #applications: Applications
  readonly #metrics: MetricsServer
  readonly #reload: ReturnType<typeof reloadCommand>
  readonly #ended = Promise.withResolvers<number>()
  /** Null until the host knows its mesh. */
  #membership: Membership | null = null
  /** A host may serve a thousand services, and each change of one asks for all of them. */
  readonly #fitnessChanged: Gathering
  readonly #receiptsChanged: Gathering
  #serial = ''
  #leave = false
  #stopping = false

  constructor(parts: AppParts, config: AgentConfig) {
    const { logger, clock } = parts
    const { paths, listen, host } = config
    this.#parts = parts
    this.#config = config
    this.#fitnessChanged = new Gathering({ clock, run: () => this.#onFitness() }, { gatherMs: 2 })
    this.#receiptsChanged = new Gathering(
      { clock, run: () => this.#showReceipts() },
      { gatherMs: 20, restShare: 9 },
    )
    this.#records = new OwnRecords({ host })
    this.#hub = new WorkerHub(
      {
        clock,
        logger,
        leadsTo: (generation) => this.#capture.interception.leadsTo(generation),
        calls: {
          lookUp: (service) => this.#lookUp(service),
          used: (services) => this.#use(services),
        },
      },
      { socketPath: workerSocketPath(paths.run), ...workersOf(config) },
    )
    this.#identity = new HostIdentity(
      {
        ...parts,
        workers: this.#hub,
        publish: (text) => this.#records.setTrustReport(text),
      },
      {
        host,
        stateDirectory: paths.state,
        controllers: config.controllers,
        joinTokenFile: config.joinTokenFile,
      },
    )
    this.#versions = new GoodVersions(parts, { stateDirectory: paths.state })
    this.#watcher = new ManifestWatcher(
      { clock, logger, goodVersions: this.#versions },
      {
        directory: paths.manifests,
        userServices: config.users,
        own: ownPlacesOf(config),
      },
    )
    this.#capture = new HostCapture(
      { clock, logger, workers: this.#hub, onChange: () => this.#onCapture() },
      {
        ...config.capture,
        ownPorts: ownPortsOf(config),
        explicitAddress: listen.explicit,
        runDirectory: paths.run,
        stateDirectory: paths.state,
        agentUser: parts.user,
      },
    )
    const { interception } = this.#capture
    this.#externalNames = new NameTargets({ clock, onChange: () => this.#externals.refresh() })
    this.#externals = new ExternalServices({
      clock,
      logger,
      names: this.#externalNames,
      isHere: (address) => isLocalAddress(address) || this.#capture.isVirtual(address),
      onChange: () => this.#onOffer(),
    })
    this.#policies = new HostPolicies(
      {
        ...parts,
        watcher: this.#watcher,
        lock: { isInForce: (service) => interception.isLocked(service) },
      },
      { directory: paths.policies, stateDirectory: paths.state },
    )
    this.#plainReach = new PlainReach(
      {
        clock,
        manifests: () => this.#policies.manifests.manifests,
        policyOf: (service) => this.#policies.manifests.policyOf(service),
        onChange: () => this.#fitnessChanged.ask(),
      },
      { address: config.address },
    )
    this.#receipts = new Receipts(parts, { runDirectory: paths.run })
    this.#health = new HealthBoard(parts)
    this.#detector = new Detector({ clock, logger, isUp: (service) => this.#isUp(service) })
    this.#withdrawals = new Withdrawals(parts, { stateDirectory: paths.state })
    this.#registrar = new Registrar(
      {
        clock,
        logger,
        publish: (desired, farewells) => this.#records.setRegistration(desired, farewells),
        fitnessOf: ({ service, port, ports }) => ({
          healthy: this.#isHealthy(service),
          warning: this.#health.statusOf(service)?.state === 'warning',
          certified: this.#identity.isCertified(service),
          protocol: this.#detector.hasAsked(service) ? this.#detector.protocolOf(service) : null,
          finding: this.#detector.findingOf(service),
          plain: this.#plainReach.has(service),
          ports: ports.map(({ name }) => ({
            name,
            healthy: this.#isPortUp(service, name),
            protocol: this.#detector.protocolOf(service, servedName({ port, ports }, name)),
          })),
        }),
        isWithdrawn: (service) => this.#withdrawals.of(service) !== null,
        carried: async () => (await this.#hub.collect()).carried,
      },
      { host, address: config.address, zone: config.zone, version: parts.version },
    )
    this.#handOver = new HandOver({
      clock,
      isInformed: (snapshot) => this.#isInformed(snapshot),
      toWorkers: (snapshot, provisional) => this.#hub.setSnapshot(snapshot, provisional),
      toKernel: (snapshot) => interception.setSnapshot(snapshot),
    })
    this.#wantedNames = new WantedNames({
      clock,
      has: (name) => this.#capture.names?.has(name) === true,
    })
    this.#dns =
      config.capture.wish === 'off'
        ? null
        : new MeshDns(
            {
              ...parts,
              names: () => this.#capture.names,
              reloadResolved,
              services: {
                lookUp: (service) => this.#name(service),
                used: (service) => this.#use([service]),
              },
            },
            { listen: listen.dns, system: config.systemDns },
          )
    this.#report = this.#makeReport()
    this.#reload = reloadCommand(
      { logger, ...parts.reload, apply: (read) => this.#reconfigure(read) },
      { started: config },
    )
    this.#admin = new AdminServer(
      {
        source: this.#report,
        commands: {
          reload: this.#reload,
          health: (input) => bringHealth(this.#health, input),
          why: whyCommand(
            {
              ...parts,
              report: this.#report,
              identity: this.#identity,
              snapshot: () => this.#membership?.discovery.snapshot ?? null,
              lookUp: (service) => this.#lookUp(service),
            },
            { source: config.inboundSource },
          ),
          rotation: (input) =>
            setRotation(
              { withdrawals: this.#withdrawals, served: () => this.#served() },
              { host },
              input,
            ),
          capture: (input) => setCapture(this.#captureParts(), input),
          bypass: (input) => setBypass(this.#captureParts(), input),
        },
        logger,
      },
      { socketPath: `${paths.run}/agent.sock` },
    )
    this.#applications = new Applications(
      {
        clock,
        logger,
        services: () => this.#report.services(),
        lookUp: async (service) => {
          if (this.#membership?.onDemand.isOn === true) await this.#lookUp(service)
        },
        host: () => ({ host, zone: config.zone, ready: this.#report.readiness().ready }),
        bringHealth: (input) => bringHealth(this.#health, input),
      },
      { socketPath: applicationSocketPath(paths.run), ...listen.applications },
    )
    this.#metrics = new MetricsServer({ source: this.#report, logger }, listen.metrics)
  }

  #makeReport(): AgentReport {
    const { clock, version, pid } = this.#parts
    const { keeper, controller, reporter } = this.#identity
    const trustDomain = (): TrustDomain | null => keeper.mesh?.trustDomain ?? null
    return new AgentReport(
      {
        clock,
        keeper,
        controller,
        watcher: this.#policies.manifests,
        policies: () => this.#policies.report(trustDomain()),
        explainer: new Explainer({
          trustDomain,
          local: () => [
            ...this.#externals.views.map(({ name, port, protocol }) => ({
              service: name,
              port,
              protocol,
              isOutside: true,
            })),
            ...this.#registrar.offer.local,
          ],
          policyOf: (service) => this.#policies.of(service),
          hostsOf: (service) => this.#hostsOf(service),
        }),
        health: this.#health,
        detector: this.#detector,
        registrar: this.#registrar,
        withdrawals: this.#withdrawals,
        hub: this.#hub,
        interception: this.#capture.interception,
        externals: this.#externals,
        lifts: this.#capture.lifts,
        dns: () => this.#dns?.counts ?? new Map(),
        locals: this.#capture.locals,
        trust: () => reporter.epochs,
        trustRecords: this.#identity.trust,
        membership: () => this.#membership,
      },
      { config: this.#config, version, pid },
    )
  }

  /**
   * Runs until stopped; calls back once it can be asked and workers find it. Rejects where it cannot
   * start, or the controller refuses this host.
   */
  async run(onStarted: () => void = () => {}): Promise<number> {
    // Whatever ends it may do so while it still starts.
    this.#ended.promise.catch(() => {})
    try {
      await this.#start()
      onStarted()
      return await this.#ended.promise
    } finally {
      await this.#stopAll()
    }
  }

  /**
   * Ends the control process; `run` settles. `leave` says goodbye for everything this host
   * published; otherwise the lease keeps it, so that the next process takes over without anybody
   * noticing.
   */
  async stop(options: { readonly leave: boolean }): Promise<void> {
    if (this.#stopping) return
    this.#parts.logger.info(options, 'agent: running -> stopping')
    this.#stopping = true
    this.#leave = options.leave
    this.#ended.resolve(0)
  }

  /** Reads the config again; a wrong one is logged and changes nothing. */
  reload(): void {
    this.#reload()
  }

  #reconfigure(config: AgentConfig): void {
    const workers = workersOf(config)
    // Rules and workers have to agree on it for as long as either runs.
    const callerPorts = this.#config.capture.firstPort
    this.#parts.logger.level = config.log.level
    this.#hub.configure({ ...workers, worker: { ...workers.worker, callerPorts } })
    this.#watcher.setUserServices(config.users)
  }

  async #start(): Promise<void> {
    const { paths } = this.#config
    makeDirectory(paths.state, 0o700)
    makeDirectory(paths.run, 0o755)
    await this.#withdrawals.load()
    this.#listen()
    void this.#tellFacts()
    const steps = [
      this.#admin,
      this.#metrics,
      this.#hub,
      this.#applications,
      this.#policies.files,
      this.#watcher,
      this.#capture.interception,
      { start: () => this.#startDns() },
      this.#identity.keeper,
    ]
    for (const step of steps) {
      if (this.#stopping) return
      await step.start()
    }
  }

  /** Names without capture would lead nowhere. */
  async #startDns(): Promise<void> {
    if (this.#capture.isWanted) await this.#dns?.start()
  }

  async #stopAll(): Promise<void> {
    this.#stopping = true
    this.#handOver.stop()
    this.#fitnessChanged.stop()
    this.#receiptsChanged.stop()
    this.#policies.manifests.stop()
    this.#plainReach.stop()
    this.#registrar.stop()
    this.#identity.reporter.stop()
    this.#externals.stop()
    this.#externalNames.stop()
    // Before anything else goes: what is captured must have somewhere to go.
    await this.#dns?.stop()
    await this.#capture.interception.stop({ leave: this.#leave })
    await this.#membership?.stop({ leave: this.#leave })
    await Promise.all([
      this.#watcher.stop(),
      this.#policies.files.stop(),
      this.#health.stop(),
      this.#detector.stop(),
      this.#identity.keeper.stop(),
      this.#admin.stop(),
      this.#applications.stop(),
      this.#metrics.stop(),
      this.#hub.stop(),
    ])
    // Nothing is in force any more; before a restart the receipts stay, like all that is published.
    if (this.#leave) this.#receipts.show([], () => ({}))
    await Promise.all([this.#versions.stop(), this.#receipts.stop()])
  }

  /** Who is told of what. Every handler reads the newest of everything, so order does not matter. */
  #listen(): void {
    const { manifests } = this.#policies
    const { trust, keeper, reporter } = this.#identity
    manifests.start()
    this.#plainReach.start()
    manifests.onChange(() => this.#onManifests())
    this.#health.onChange(() => {
      // Before a service that has just come up is offered: where does it listen?
      manifests.refresh()
      this.#detector.refresh()
      this.#fitnessChanged.ask()
    })
    this.#detector.onChange(() => this.#fitnessChanged.ask())
    this.#withdrawals.onChange(() => this.#fitnessChanged.ask())
    keeper.onChange(() => this.#onIdentity())
    this.#hub.onChange(() => this.#onWorkers())
    this.#registrar.onChange(() => this.#onOffer())
    trust.onChange((now) => {
      this.#hub.setTrust(now)
      this.#policies.setMesh(now.policies)
      this.#membership?.discovery.setBanned(Object.keys(now.bans.hosts))
      reporter.refresh()
    })
  }

  #onManifests(): void {
    const { manifests, known } = this.#policies.manifests
    this.#health.apply(manifests)
    this.#detector.apply(manifests)
    // What is outside has no user here, and no port to lock.
    this.#capture.locals.setManifests(known.filter(({ external }) => external === undefined))
    this.#externals.setManifests(manifests)
    this.#registrar.setManifests(manifests)
    this.#onOffer()
  }

  #onOffer(): void {
    const { offer } = this.#registrar
    const { manifests } = this.#policies.manifests
    // Draining instances keep their certificates until they are gone, and no longer.
    const wanted = new Set<ServiceName>(offer.local.map(({ service }) => service))
    for (const { service, port, run } of manifests) {
      if (port !== undefined || run !== undefined) wanted.add(service)
    }
    this.#identity.want(wanted)
    this.#policies.update(offer.local)
    this.#capture.locals.setGuarded(this.#policies.strict)
    this.#membership?.onDemand.pin(usedBy(manifests, offer.local))
    this.#membership?.discovery.setLocal({
      ...offer,
      listeners: listenersOf(manifests),
      external: this.#externals.views,
      policies: this.#policies.policies,
    })
    this.#receiptsChanged.ask()
  }

  #onIdentity(): void {
    const { keeper, refusal } = this.#identity
    const { mesh, host } = keeper
    if (mesh !== null && host !== null) {
      this.#hub.setCredentials(keeper.credentials)
      void this.#join(mesh.trustDomain).catch((error: unknown) => this.#ended.reject(error))
      if (this.#serial !== '' && this.#serial !== host.serial) {
        this.#membership?.link.renew('the host’s certificate was renewed')
      }
      this.#serial = host.serial
    } else if (refusal !== null) this.#ended.reject(refusal)
    this.#fitnessChanged.ask()
  }

  #onFitness(): void {
    this.#plainReach.look()
    this.#registrar.refresh()
    if (this.#membership !== null) this.#handOver.refresh(this.#membership.discovery.snapshot)
    this.#identity.reporter.refresh()
    this.#receiptsChanged.ask()
  }

  /** Looks for a service that is not in the view; null: it is now. */
  async #lookUp(service: ServiceName): Promise<NotFound | null> {
    if (this.#membership === null) return 'away'
    const { onDemand, discovery } = this.#membership
    const found = await onDemand.lookUp(service)
    if (found !== 'found') return found
    const { services } = await discovery.settled()
    return Object.hasOwn(services, service) ? null : 'unknown'
  }

  /** Services of the mesh are called, or asked for; others have other ways to be known. */
  #use(services: readonly ServiceName[]): void {
    if (this.#membership === null) return
    const { onDemand, discovery } = this.#membership
    const known = discovery.snapshot.services
    onDemand.use(services.filter((service) => Object.hasOwn(known, service)))
  }

  /** Finds a service for DNS: until it has an address here, where not all are followed. */
  async #name(service: ServiceName): Promise<void> {
    if (this.#membership?.onDemand.isOn !== true) return
    if ((await this.#lookUp(service)) === null) await this.#wantedNames.wait(service)
  }

  #onCapture(): void {
    this.#wantedNames.refresh()
    this.#dns?.setPaused(this.#capture.isLifted)
    this.#hub.refresh()
    this.#applications.refresh()
    this.#showReceipts()
  }

  #onWorkers(): void {
    this.#capture.interception.refresh()
    this.#identity.reporter.refresh()
    const port = parsePort(this.#hub.tunnelPort)
    if (port.ok) this.#registrar.setTunnelPort(port.value)
  }

  /** Begins to follow the store, once, when the mesh is known. */
  async #join(trustDomain: TrustDomain): Promise<void> {
    if (this.#membership !== null) {
      this.#membership.ensure(trustDomain)
      return
    }
    const { host, paths } = this.#config
    const { trust, keeper } = this.#identity
    const asker = new HostAsker({
      clock: this.#parts.clock,
      trust: () => trust.trust,
      credential: () => keeper.host,
    })
    const membership = new Membership(
      {
        ...this.#parts,
        openStore: () => this.#identity.openStore(),
        ask: (lost, service, done) => asker.ask(lost, service, done),
      },
      { host, trustDomain, stateDirectory: paths.state, wholeMesh: this.#config.wholeMesh },
    )
    this.#membership = membership
    const { link, discovery } = membership
    discovery.setBanned(Object.keys(trust.trust?.bans.hosts ?? {}))
    link.onChange(({ changedKeys }) => {
      const all = changedKeys === 'all'
      if (all || changedKeys.some((key) => key.startsWith(trustPrefix))) {
        this.#identity.offerRecords(link.view.entries)
      }
    })
    discovery.onChange((snapshot) => {
      this.#handOver.refresh(snapshot)
      this.#applications.refresh()
    })
    this.#handOver.start(() => discovery.snapshot)
    link.onPublished(() => this.#receiptsChanged.ask())
    link.onState(({ kind }) => {
      this.#receiptsChanged.ask()
      // It may have moved.
      if (kind === 'away') keeper.lookAgain()
    })
    await discovery.start()
    if (this.#stopping) return
    this.#records.attach(link)
    this.#onOffer()
    membership.start()
  }

  /** Whether this process has found out what can be offered here. */
  #isInformed(snapshot: Snapshot): boolean {
    if (this.#externals.isLooking) return false
    return this.#policies.manifests.manifests.every(({ service, port }) => {
      if (port === undefined) return true
      switch (this.#registrar.withheld(service)) {
        case null:
          return showsOwn(snapshot, service)
        case 'no-tunnel':
        case 'not-asked':
          return false
        case 'not-healthy':
          return this.#health.statusOf(service)?.state !== 'starting'
        case 'no-certificate':
        case 'drained':
          return true
      }
    })
  }

  #captureParts(): CaptureCommandParts {
    const { lifts, interception } = this.#capture
    const isKnown = (service: ServiceName): boolean =>
      this.#hostsOf(service).length > 0 ||
      this.#served().includes(service) ||
      this.#externals.views.some(({ name }) => name === service)
    return { clock: this.#parts.clock, lifts, interception, isKnown }
  }

  #served(): readonly ServiceName[] {
    return this.#watcher.manifests.flatMap(({ service, port }) =>
      port === undefined ? [] : service,
    )
  }

  /** Facts are nice to have: a machine that does not tell them serves as well. */
  async #tellFacts(): Promise<void> {
    try {
      this.#registrar.setFacts(await askHostFacts())
    } catch (error) {
      this.#parts.logger.debug({ problem: messageOf(error) }, 'the machine tells no facts')
    }
  }

  #isUp(service: ServiceName): boolean {
    const state = this.#health.statusOf(service)?.state
    return state !== undefined && isUp(state)
  }

  #isPortUp(service: ServiceName, name: PortName): boolean {
    const health = this.#health.statusOf(service)
    const state = health === null ? 'failing' : stateOfPort(health, name)
    if (state !== 'starting') return isUp(state)
    const record = this.#registrar.offer.offered.find((one) => one.service === service)
    return record?.ports?.some((one) => one.name === name && one.down !== true) === true
  }

  /** While the first checks of a changed manifest run, what was said before still counts. */
  #isHealthy(service: ServiceName): boolean {
    const state = this.#health.statusOf(service)?.state
    if (state !== 'starting') return state !== undefined && isUp(state)
    return this.#registrar.offeredOf(service) !== null
  }

  #hostsOf(service: ServiceName): readonly string[] {
    const services = this.#membership?.discovery.snapshot.services ?? {}
    const view = Object.hasOwn(services, service) ? services[service] : undefined
    return [...new Set(view?.instances.map(({ host }) => host))]
  }

  #showReceipts(): void {
    const { verdicts } = this.#policies.manifests
    this.#receipts.show(verdicts, (verdict) => this.#receiptFacts(verdict))
  }

  #receiptFacts({ manifest }: Verdict): ReceiptFacts {
    if (manifest?.external !== undefined) {
      const warnings = this.#externals.warningsOf(manifest.service)
      return warnings.length === 0 ? {} : { warnings }
    }
    if (manifest?.port === undefined) return {}
    const protection = this.#policies.manifests.of(manifest.service)
    const facts = this.#report.receiptFacts(manifest.service)
    const warnings = [
      ...(protection.kind === 'local-only' ? [protection.warning] : []),
      ...carriageNotes(manifest),
    ]
    return warnings.length === 0 ? facts : { ...facts, warnings }
  }
}

/** What workers are told, now and once they start. */
function workersOf(config: AgentConfig): Omit<WorkerHubSettings, 'socketPath'> {
  const { listen, accessLog, log, retireMs } = config
  const { inboundSource, workers, maxConnections, limits } = config
  return {
    worker: {
      tunnel: listen.tunnel,
      forwardProxy: listen.forwardProxy,
      explicitAddress: listen.explicit,
      callerPorts: config.capture.firstPort,
      inboundSource,
      accessLog,
      workers,
      maxConnections,
      limits,
    },
    live: { accessLog, logLevel: log.level },
    retireMs,
  }
}

/** Ports of the mesh itself: a connection to one of them that is led to a worker would go in circles. */
function ownPortsOf({ listen, controllers }: AgentConfig): readonly number[] {
  const { tunnel, forwardProxy, applications, metrics } = listen
  const far = controllers.map((address) => Number(/[0-9]+$/.exec(address)?.[0]))
  return [tunnel.port, forwardProxy.port, applications.port, metrics.port, ...far]
}

/** The same as places, with the ports of captured callers: none of them is a service's. */
function ownPlacesOf({ listen, capture }: AgentConfig): readonly OwnPlace[] {
  const names = {
    'the tunnel': listen.tunnel,
    'the forward proxy': listen.forwardProxy,
    'the API for applications': listen.applications,
    metrics: listen.metrics,
    DNS: listen.dns,
  }
  const own = Object.entries(names).map(([what, at]) => ({ what, ...at, first: at.port }))
  if (capture.wish === 'off') return own
  const callers = callerPortRange(capture.firstPort)
  return [...own, { what: 'ports of captured callers (capturePorts)', address: '', ...callers }]
}

/** The services that manifests name, and those served here. */
function usedBy(
  manifests: readonly Manifest[],
  local: readonly LocalInstance[],
): ReadonlySet<ServiceName> {
  const used = new Set<ServiceName>(local.map(({ service }) => service))
  for (const { requires, upstreams } of manifests) {
    for (const service of requires) used.add(service)
    for (const { service } of upstreams) used.add(service)
  }
  return used
}

/** Whether callers find this host's instance of a service in the snapshot. */
function showsOwn({ services, host }: Snapshot, service: ServiceName): boolean {
  if (!Object.hasOwn(services, service)) return false
  return services[service]?.instances.some((instance) => instance.host === host) === true
}

function makeDirectory(path: string, mode: number): void {
  try {
    mkdirSync(path, { recursive: true, mode })
  } catch (error) {
    throw new MeshError(`cannot make the directory ${path}: ${messageOf(error)}`, {
      code: 'directory',
      hint: 'set paths in the config, or make it and give it to the agent’s user',
      cause: error,
    })
  }
}
