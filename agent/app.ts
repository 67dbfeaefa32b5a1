/**
 * Composition root of the control process: manifests, health, identity, registration, discovery and
 * the workers' hub, wired together. It carries no traffic; when it ends, workers go on. Longer than
 * most: who is told of what by whom stands in one place.
 */

import { mkdirSync } from 'node:fs'
import { AdminServer } from './admin/admin-server.ts'
import { MetricsServer } from './admin/metrics-server.ts'
import type { AgentConfig } from './config.ts'
import { Detector } from './detection/detector.ts'
import { MeshDns } from './dns/mesh-dns.ts'
import { reloadResolved } from './dns/reload-resolved.ts'
import { DiskCache } from './discovery/disk-cache.ts'
import { Discovery } from './discovery/discovery.ts'
import { listenersOf } from './discovery/listeners.ts'
import { AgentReport } from './agent-report.ts'
import { isUp } from './health/check-rules.ts'
import { HealthBoard } from './health/health-board.ts'
import { bringHealth } from './health/bring-health.ts'
import { GrpcControllerPort } from './identity/controller-port.ts'
import { waitsForHelp } from './identity/identity-errors.ts'
import { IdentityFiles } from './identity/identity-files.ts'
import { IdentityKeeper } from './identity/identity-keeper.ts'
import { readJoinToken } from './identity/join-token-file.ts'
import type { MeshFacts } from './identity/mesh-facts.ts'
import { kernelCommands } from './interception/commands.ts'
import { exemptionsOf } from './interception/exemptions.ts'
import { GrantsFile } from './interception/grants-file.ts'
import { hasIpv6 } from './interception/host-fitness.ts'
import { Interception } from './interception/interception.ts'
import { LocalServices } from './interception/local-services.ts'
import { TrustFile } from './identity/trust-file.ts'
import { TrustKeeper } from './identity/trust-keeper.ts'
import { TrustReporter } from './identity/trust-report.ts'
import { GoodVersions } from './manifests/good-versions.ts'
import type { ReceiptFacts, Verdict } from './manifests/receipt.ts'
import { Receipts } from './manifests/receipts.ts'
import { ManifestWatcher } from './manifests/watcher.ts'
import type { Clock, Random } from './platform.ts'
import { Explainer } from './policies/explainer.ts'
import { policiesReport } from './policies/policies-report.ts'
import { PolicyBook } from './policies/policy-book.ts'
import { PolicyFiles } from './policies/policy-files.ts'
import { ProtectedManifests } from './policies/protected-manifests.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import { Gathering } from '#shared/lifecycle/gathering.ts'
import { askHostFacts } from './registration/host-facts.ts'
import { Registrar } from './registration/registrar.ts'
import { setRotation } from './registration/rotation-commands.ts'
import { Withdrawals } from './registration/withdrawals.ts'
import { workerSocketPath } from './workers/socket-path.ts'
import { WorkerHub } from './workers/worker-hub.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { parsePort, type ServiceName } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { bansKey, bundleKey, meshPrefix, trustReportKey } from '#shared/store/keys.ts'
import { StoreLink } from '#shared/store/link.ts'

/** What the control process is made with. */
export interface AppParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly pid: number
  /** The user it runs as, workers too. */
  readonly user: number
  readonly version: string
}

/** DESIGN: the lease outlives a restart of the control process. */
const leaseTtlMs = 15_000

/** A restarted control process that has not found out about its own host by now never will. */
const settleMs = 10_000

/** What can only be there once the host knows its mesh. */
interface Membership {
  readonly mesh: MeshFacts
  readonly link: StoreLink
  readonly discovery: Discovery
}

/** What the registrar last wanted in the store, for a link that begins later. */
interface Published {
  readonly desired: ReadonlyMap<string, string>
  readonly farewells: ReadonlyMap<string, string>
}

/** See the header. */
export class App {
  readonly #parts: AppParts
  readonly #config: AgentConfig
  readonly #trust: TrustKeeper
  readonly #trustReporter: TrustReporter
  readonly #keeper: IdentityKeeper
  readonly #versions: GoodVersions
  readonly #watcher: ManifestWatcher
  readonly #receipts: Receipts
  readonly #health: HealthBoard
  readonly #detector: Detector
  readonly #withdrawals: Withdrawals
  readonly #registrar: Registrar
  readonly #hub: WorkerHub
  readonly #policyFiles: PolicyFiles
  /** The manifests of the watcher that count. */
  readonly #manifests: ProtectedManifests
  readonly #policies = new PolicyBook()
  readonly #locals: LocalServices
  readonly #interception: Interception
  readonly #dns: MeshDns | null
  readonly #report: AgentReport
  readonly #admin: AdminServer
  readonly #metrics: MetricsServer
  readonly #ended = Promise.withResolvers<number>()
  #membership: Membership | null = null
  #published: Published = { desired: new Map(), farewells: new Map() }
  /** What this host last reported about its trust. */
  #trustText = ''
  #wanted = ''
  /** False while this process may still know less of its own host than the one before it. */
  #settled = false
  #settling: Timer | null = null
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
      { gatherMs: 10 },
    )
    const file = new TrustFile({ logger }, { stateDirectory: paths.state })
    this.#trust = new TrustKeeper({ file, clock, logger })
    const controller = new GrpcControllerPort(
      { clock, refusalOf: (svid) => this.#trust.refusal(svid) },
      { addresses: config.controllers },
    )
    this.#keeper = new IdentityKeeper(
      {
        ...parts,
        trust: this.#trust,
        controller,
        files: new IdentityFiles({ stateDirectory: paths.state, host }),
        joinToken: () => readJoinToken(config.joinTokenFile),
      },
      { host },
    )
    this.#versions = new GoodVersions(parts, { stateDirectory: paths.state })
    this.#watcher = new ManifestWatcher(
      { clock, logger, goodVersions: this.#versions },
      { directory: paths.manifests, userServices: config.users },
    )
    this.#policyFiles = new PolicyFiles(parts, {
      directory: paths.policies,
      stateDirectory: paths.state,
    })
    this.#manifests = new ProtectedManifests({
      clock,
      logger,
      watcher: this.#watcher,
      files: this.#policyFiles,
      lock: { isInForce: (service) => this.#interception.isLocked(service) },
    })
    this.#receipts = new Receipts(parts, { runDirectory: paths.run })
    this.#health = new HealthBoard(parts)
    this.#detector = new Detector({ clock, logger, isUp: (service) => this.#isUp(service) })
    this.#withdrawals = new Withdrawals(parts, { stateDirectory: paths.state })
    this.#registrar = new Registrar(
      {
        clock,
        logger,
        publish: (desired, farewells) => {
          this.#published = { desired, farewells }
          this.#publish()
        },
        fitnessOf: (service) => ({
          healthy: this.#isHealthy(service),
          warning: this.#health.statusOf(service)?.state === 'warning',
          certified: this.#isCertified(service),
          protocol: this.#detector.protocolOf(service),
          finding: this.#detector.findingOf(service),
        }),
        isWithdrawn: (service) => this.#withdrawals.of(service) !== null,
      },
      { host, address: config.address, zone: config.zone, version: parts.version },
    )
    this.#hub = new WorkerHub(
      { clock, logger },
      {
        socketPath: workerSocketPath(paths.run),
        worker: {
          tunnel: listen.tunnel,
          forwardProxy: listen.forwardProxy,
          explicitAddress: listen.explicit,
          inboundSource: config.inboundSource,
          accessLog: config.accessLog,
          workers: config.workers,
          maxConnections: config.maxConnections,
          callerPorts: config.capture.firstPort,
          limits: config.limits,
        },
      },
    )
    this.#locals = new LocalServices(parts, { agentUser: parts.user })
    this.#interception = new Interception(
      {
        clock,
        logger,
        commands: kernelCommands(),
        locals: this.#locals,
        grants: new GrantsFile(parts, { stateDirectory: paths.state }),
        workers: this.#hub,
        onChange: () => this.#showReceipts(),
      },
      {
        wish: config.capture.wish,
        owner: paths.run,
        agentUser: parts.user,
        hasIpv6: hasIpv6(),
        firstPort: config.capture.firstPort,
        exempt: exemptionsOf(config.capture.exclude, ownPortsOf(config)),
        exemptUsers: config.capture.exclude.users,
      },
    )
    this.#trustReporter = new TrustReporter(
      {
        clock,
        trust: () => this.#trust.trust,
        problem: () => this.#trust.problem || (this.#keeper.problems[0]?.message ?? ''),
        credentials: () => this.#keeper.credentials,
        workers: () => this.#hub.workers,
        collect: () => this.#hub.collect(),
        publish: (text) => {
          this.#trustText = text
          this.#publish()
        },
      },
      { host },
    )
    const names = () =>
      this.#interception.status.kind === 'on' ? (this.#interception.plan?.names ?? null) : null
    this.#dns =
      config.capture.wish === 'off'
        ? null
        : new MeshDns(
            { ...parts, names, reloadResolved },
            { listen: listen.dns, system: config.systemDns },
          )
    this.#report = new AgentReport(
      {
        clock,
        keeper: this.#keeper,
        controller,
        watcher: this.#manifests,
        policies: () =>
          policiesReport({
            directory: paths.policies,
            files: this.#policyFiles,
            manifests: this.#manifests,
            trustDomain: this.#keeper.mesh?.trustDomain ?? null,
          }),
        explainer: new Explainer({
          trustDomain: () => this.#keeper.mesh?.trustDomain ?? null,
          local: () => this.#registrar.offer.local,
          policyOf: (service) => this.#policies.of(service),
          hostsOf: (service) => this.#hostsOf(service),
        }),
        health: this.#health,
        detector: this.#detector,
        registrar: this.#registrar,
        withdrawals: this.#withdrawals,
        hub: this.#hub,
        interception: this.#interception,
        dns: () => this.#dns?.counts ?? new Map(),
        locals: this.#locals,
        trust: () => this.#trustReporter.epochs,
        membership: () => this.#membership,
      },
      { config, version: parts.version, pid: parts.pid },
    )
    this.#admin = new AdminServer(
      {
        source: this.#report,
        commands: {
          health: (input) => bringHealth(this.#health, input),
          rotation: (input) =>
            setRotation(
              { withdrawals: this.#withdrawals, served: () => this.#served() },
              { host },
              input,
            ),
        },
        logger,
      },
      { socketPath: `${paths.run}/agent.sock` },
    )
    this.#metrics = new MetricsServer({ source: this.#report, logger }, listen.metrics)
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
      this.#policyFiles,
      this.#watcher,
      this.#interception,
      { start: () => this.#startDns() },
      this.#keeper,
    ]
    for (const step of steps) {
      if (this.#stopping) return
      await step.start()
    }
  }

  /** Names without capture would lead nowhere. */
  async #startDns(): Promise<void> {
    if (this.#interception.status.kind !== 'off') await this.#dns?.start()
  }

  async #stopAll(): Promise<void> {
    this.#stopping = true
    this.#settling?.stop()
    this.#fitnessChanged.stop()
    this.#receiptsChanged.stop()
    this.#manifests.stop()
    this.#registrar.stop()
    // Before anything else goes: what is captured must have somewhere to go.
    await this.#dns?.stop()
    await this.#interception.stop({ leave: this.#leave })
    this.#trustReporter.stop()
    await this.#membership?.link.stop({ withdraw: this.#leave })
    await this.#membership?.discovery.stop()
    await Promise.all([
      this.#watcher.stop(),
      this.#policyFiles.stop(),
      this.#health.stop(),
      this.#detector.stop(),
      this.#keeper.stop(),
      this.#admin.stop(),
      this.#metrics.stop(),
      this.#hub.stop(),
    ])
    // Nothing is in force any more; before a restart the receipts stay, like all that is published.
    if (this.#leave) this.#receipts.show([], () => ({}))
    await Promise.all([this.#versions.stop(), this.#receipts.stop()])
  }

  /** Who is told of what. Every handler reads the newest of everything, so order does not matter. */
  #listen(): void {
    this.#manifests.start()
    this.#manifests.onChange(() => this.#onManifests())
    this.#health.onChange(() => {
      // Before a service that has just come up is offered: where does it listen?
      this.#manifests.refresh()
      this.#detector.refresh()
      this.#fitnessChanged.ask()
    })
    this.#detector.onChange(() => this.#fitnessChanged.ask())
    this.#withdrawals.onChange(() => this.#fitnessChanged.ask())
    this.#keeper.onChange(() => this.#onIdentity())
    this.#hub.onChange(() => this.#onWorkers())
    this.#registrar.onChange(() => this.#onOffer())
    this.#trust.onChange((trust) => {
      this.#hub.setTrust(trust)
      this.#membership?.discovery.setBanned(Object.keys(trust.bans.hosts))
      this.#trustReporter.refresh()
    })
  }

  /** Everything this host wants in the store. */
  #publish(): void {
    const { desired, farewells } = this.#published
    const all = new Map(desired)
    if (this.#trustText !== '') all.set(trustReportKey(this.#config.host), this.#trustText)
    this.#membership?.link.publish(all, farewells)
  }

  /** The store has other trust records than before, perhaps; the keeper judges them. */
  #onTrustRecords({ view }: StoreLink): void {
    const records = [bundleKey, bansKey].flatMap((key) => {
      const value = view.entries.get(key)
      return value === undefined ? [] : [{ key, value }]
    })
    void this.#trust.offer(records)
  }

  #onManifests(): void {
    const { manifests } = this.#manifests
    this.#health.apply(manifests)
    this.#detector.apply(manifests)
    this.#locals.setManifests(this.#manifests.known)
    this.#registrar.setManifests(manifests)
    this.#onOffer()
  }

  /** Draining instances keep their certificates until they are gone, and no longer. */
  #want(): void {
    const wanted = new Set<ServiceName>(this.#registrar.offer.local.map(({ service }) => service))
    for (const { service, port, run } of this.#manifests.manifests) {
      if (port !== undefined || run !== undefined) wanted.add(service)
    }
    const shown = [...wanted].sort().join(' ')
    if (shown === this.#wanted) return
    this.#wanted = shown
    this.#keeper.want(wanted)
  }

  #onOffer(): void {
    this.#want()
    const { offer } = this.#registrar
    const { manifests } = this.#manifests
    const files = this.#policyFiles.policies
    this.#policies.update({ manifests, files, local: offer.local })
    // Also of services that wait for their lock before they count.
    const strict = this.#manifests.known.filter(
      ({ service }) => this.#manifests.policyOf(service).strict,
    )
    this.#locals.setGuarded(new Set(strict.map(({ service }) => service)))
    this.#membership?.discovery.setLocal({
      ...offer,
      listeners: listenersOf(manifests),
      policies: this.#policies.policies,
    })
    this.#receiptsChanged.ask()
  }

  #onIdentity(): void {
    const { mesh, host, problems } = this.#keeper
    if (mesh !== null && host !== null) {
      this.#hub.setCredentials(this.#keeper.credentials)
      void this.#join(mesh).catch((error: unknown) => this.#ended.reject(error))
      if (this.#serial !== '' && this.#serial !== host.serial) {
        this.#membership?.link.renew('the host’s certificate was renewed')
      }
      this.#serial = host.serial
    } else {
      const refusal = problems.find(({ identity, retry }) => identity === 'host' && !retry)
      if (refusal !== undefined && !waitsForHelp.has(refusal.code)) {
        const { message, code, hint } = refusal
        this.#ended.reject(new MeshError(message, { code, hint }))
      }
    }
    this.#fitnessChanged.ask()
  }

  #onFitness(): void {
    this.#registrar.refresh()
    if (this.#membership !== null) this.#handOut(this.#membership.discovery)
    this.#trustReporter.refresh()
    this.#receiptsChanged.ask()
  }

  #onWorkers(): void {
    this.#interception.refresh()
    this.#trustReporter.refresh()
    const port = parsePort(this.#hub.tunnelPort)
    if (port.ok) this.#registrar.setTunnelPort(port.value)
  }

  /** Begins to follow the store, once, when the mesh is known. */
  async #join(mesh: MeshFacts): Promise<void> {
    const { trustDomain } = mesh
    const known = this.#membership?.mesh.trustDomain
    if (known === trustDomain) return
    if (known !== undefined) {
      const detail = `this host left ${known} for ${trustDomain}; starting afresh`
      throw new MeshError(detail, { code: 'trust-domain-changed', retry: true })
    }
    const { clock, logger } = this.#parts
    const { host, paths } = this.#config
    const link = new StoreLink(
      { ...this.#parts, connect: async () => this.#openStore() },
      { prefix: meshPrefix, leaseTtlMs },
    )
    const cache = new DiskCache({ stateDirectory: paths.state, host, trustDomain })
    const discovery = new Discovery({ clock, logger, store: link, cache }, { host, trustDomain })
    this.#membership = { mesh, link, discovery }
    discovery.setBanned(Object.keys(this.#trust.trust?.bans.hosts ?? {}))
    link.onChange(({ changedKeys }) => {
      const all = changedKeys === 'all'
      if (all || changedKeys.includes(bundleKey) || changedKeys.includes(bansKey))
        this.#onTrustRecords(link)
    })
    discovery.onChange(() => this.#handOut(discovery))
    this.#settling = clock.after(settleMs, () => {
      this.#settled = true
      this.#handOut(discovery)
    })
    link.onPublished(() => this.#receiptsChanged.ask())
    link.onState(({ kind }) => {
      this.#receiptsChanged.ask()
      // It may have moved.
      if (kind === 'away') this.#keeper.lookAgain()
    })
    await discovery.start()
    if (this.#stopping) return
    this.#publish()
    this.#onOffer()
    link.start()
  }

  /**
   * Workers that served before this process began keep the view they have until the first checks of
   * this host's own instances are done; else a restart would take them away for a moment.
   */
  #handOut({ snapshot }: Discovery): void {
    this.#settled ||= this.#manifests.manifests.every(({ service, port }) => {
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
    if (snapshot.sequence === 0) return
    this.#hub.setSnapshot(snapshot, !this.#settled)
    // Rules that stand lead where they did until this process knows what the one before it knew.
    if (this.#settled) this.#interception.setSnapshot(snapshot)
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

  #openStore() {
    const { mesh, host } = this.#keeper
    if (mesh === null || host === null) {
      throw new MeshError('this host has no credential', { code: 'no-credential', retry: true })
    }
    const { endpoints, serverName } = mesh.store
    const { chainPem, keyPem } = host
    const rootPem = mesh.trustBundlePem
    return openEtcd(this.#parts, {
      endpoints,
      ...(serverName === '' ? {} : { tls: { rootPem, chainPem, keyPem, serverName } }),
    })
  }

  #isUp(service: ServiceName): boolean {
    const state = this.#health.statusOf(service)?.state
    return state !== undefined && isUp(state)
  }

  /** While the first checks of a changed manifest run, what was said before still counts. */
  #isHealthy(service: ServiceName): boolean {
    const state = this.#health.statusOf(service)?.state
    if (state !== 'starting') return state !== undefined && isUp(state)
    return this.#registrar.offer.offered.some((record) => record.service === service)
  }

  #isCertified(service: ServiceName): boolean {
    const now = this.#parts.clock.now()
    return (this.#keeper.credentialOf(service)?.notAfterMs ?? 0) > now
  }

  #hostsOf(service: ServiceName): readonly string[] {
    const services = this.#membership?.discovery.snapshot.services ?? {}
    const view = Object.hasOwn(services, service) ? services[service] : undefined
    return [...new Set(view?.instances.map(({ host }) => host))]
  }

  #showReceipts(): void {
    this.#receipts.show(this.#manifests.verdicts, (verdict) => this.#receiptFacts(verdict))
  }

  #receiptFacts({ manifest }: Verdict): ReceiptFacts {
    if (manifest?.port === undefined) return {}
    const protection = this.#manifests.of(manifest.service)
    const facts = this.#report.receiptFacts(manifest.service)
    return protection.kind === 'local-only' ? { ...facts, warnings: [protection.warning] } : facts
  }
}

/** Ports of the mesh itself: a connection to one of them that is led to a worker would go in circles. */
function ownPortsOf({ listen, controllers }: AgentConfig): readonly number[] {
  const { tunnel, forwardProxy, metrics } = listen
  const far = controllers.map((address) => Number(/[0-9]+$/.exec(address)?.[0]))
  return [tunnel.port, forwardProxy.port, metrics.port, ...far]
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
