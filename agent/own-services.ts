/**
 * Composition of what this host serves: manifests under the policies that count, what checks and
 * detection find out about them, services outside, and what of all that is offered to the mesh. Who
 * else is told of a change is decided in app.ts.
 */

import type { AgentConfig } from './config.ts'
import { ownPlacesOf } from './config-slices.ts'
import { Detector } from './detection/detector.ts'
import { ExternalServices } from './external/external-services.ts'
import { isUp, stateOfPort } from './health/check-rules.ts'
import { HealthBoard } from './health/health-board.ts'
import { KeptResults } from './health/kept-results.ts'
import type { HostIdentity } from './identity/host-identity.ts'
import type { HostCapture } from './interception/host-capture.ts'
import { NameTargets } from './interception/name-targets.ts'
import { GoodVersions } from './manifests/good-versions.ts'
import { ManifestWatcher } from './manifests/watcher.ts'
import type { Clock, Random } from './platform.ts'
import { HostPolicies } from './policies/host-policies.ts'
import { PlainReach } from './policies/plain-reach.ts'
import { askHostFacts } from './registration/host-facts.ts'
import type { OwnRecords } from './registration/own-records.ts'
import { Registrar, type RegistrarParts } from './registration/registrar.ts'
import { Withdrawals } from './registration/withdrawals.ts'
import { isLocalAddress } from '#shared/http/local-address.ts'
import { Gathering } from '#shared/lifecycle/gathering.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { servedName, type Manifest } from '#shared/model/manifest.ts'
import type { PortName, ServiceName } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'

/** What it leans on. */
export interface OwnServicesParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly pid: number
  readonly version: string
  readonly identity: Pick<HostIdentity, 'isCertified'>
  readonly capture: Pick<HostCapture, 'interception' | 'locals' | 'isVirtual'>
  readonly records: Pick<OwnRecords, 'setRegistration'>
  readonly carried: NonNullable<RegistrarParts['carried']>
  /** Told when other services are offered, or others are wanted. */
  readonly onOffer: () => void
  /** Told when services, or any (null), may have become fit to be called, or unfit. */
  readonly onFitness: (services: ReadonlySet<ServiceName> | null) => void
}

/** See the header. */
export class OwnServices {
  readonly watcher: ManifestWatcher
  readonly policies: HostPolicies
  readonly health: HealthBoard
  readonly detector: Detector
  readonly withdrawals: Withdrawals
  readonly registrar: Registrar
  readonly externals: ExternalServices
  readonly #parts: OwnServicesParts
  readonly #versions: GoodVersions
  readonly #kept: KeptResults
  readonly #externalNames: NameTargets
  readonly #plainReach: PlainReach
  readonly #fitnessChanged: Gathering
  /** Whose fitness may be another one; null: everybody's. */
  #toJudge: Set<ServiceName> | null = new Set()
  /** Manifests of local users. */
  #ofUsers: ReadonlyMap<ServiceName, Manifest> = new Map()

  constructor(parts: OwnServicesParts, config: AgentConfig) {
    const { clock, logger, capture } = parts
    const { paths, host } = config
    this.#parts = parts
    this.#fitnessChanged = new Gathering({ clock, run: () => this.#onFitness() }, { gatherMs: 2 })
    this.#versions = new GoodVersions(parts, { stateDirectory: paths.state })
    this.watcher = new ManifestWatcher(
      { clock, logger, goodVersions: this.#versions },
      {
        directory: paths.manifests,
        userServices: config.users,
        own: ownPlacesOf(config),
        explicitAddress: config.listen.explicit,
      },
    )
    this.#externalNames = new NameTargets({ clock, onChange: () => this.externals.refresh() })
    this.externals = new ExternalServices({
      clock,
      logger,
      names: this.#externalNames,
      isHere: (address) => isLocalAddress(address) || capture.isVirtual(address),
      onChange: parts.onOffer,
    })
    this.policies = new HostPolicies(
      {
        ...parts,
        watcher: this.watcher,
        lock: { isInForce: (service) => capture.interception.isLocked(service) },
      },
      { directory: paths.policies, stateDirectory: paths.state },
    )
    this.#plainReach = new PlainReach(
      {
        clock,
        manifests: () => this.policies.manifests.manifests,
        policyOf: (service) => this.policies.manifests.policyOf(service),
        isUp: (service) => this.#isUp(service),
        onChange: () => this.#judgeAgain(null),
      },
      { address: config.address },
    )
    this.#kept = new KeptResults(parts, { runDirectory: paths.run })
    this.health = new HealthBoard({
      ...parts,
      kept: this.#kept,
      whyNot: (manifest) => this.#whyNot(manifest),
    })
    this.detector = new Detector({
      clock,
      logger,
      isUp: (service) => this.#isUp(service) && this.#isOwn(service),
    })
    this.withdrawals = new Withdrawals(parts, { stateDirectory: paths.state })
    this.registrar = new Registrar(
      {
        clock,
        logger,
        publish: (desired, farewells) => parts.records.setRegistration(desired, farewells),
        fitnessOf: (manifest, { service, port, ports } = manifest) => ({
          healthy: this.#isHealthy(manifest),
          isOthers: capture.locals.owners.isOthers(manifest) === true,
          warning: this.health.statusOf(service)?.state === 'warning',
          certified: parts.identity.isCertified(service),
          protocol: this.detector.hasAsked(service) ? this.detector.protocolOf(service) : null,
          finding: this.detector.findingOf(service),
          plain: this.#plainReach.has(manifest),
          ports: ports.map(({ name }) => ({
            name,
            healthy: this.#isPortUp(service, name),
            protocol: this.detector.protocolOf(service, servedName({ port, ports }, name)),
          })),
        }),
        isWithdrawn: (service) => this.withdrawals.of(service) !== null,
        carried: parts.carried,
      },
      { host, address: config.address, zone: config.zone, version: parts.version },
    )
  }

  /** Services with a port here, whether or not they are offered. */
  get served(): readonly ServiceName[] {
    return this.watcher.manifests.flatMap(({ service, port }) =>
      port === undefined ? [] : service,
    )
  }

  /** Takes over what an earlier run kept. */
  async load(): Promise<void> {
    await this.withdrawals.load()
    await this.#kept.load()
  }

  /** Begins to hear what changes; every handler reads the newest of everything. */
  listen(): void {
    const { manifests } = this.policies
    manifests.start()
    this.#plainReach.start()
    manifests.onChange(() => this.#onManifests())
    this.health.onChange((service) => {
      // Before a service that has just come up is offered: where does it listen?
      manifests.refresh()
      this.detector.refresh(service)
      this.#judgeAgain([service])
    })
    this.detector.onChange((service) => this.#judgeAgain([service]))
    this.#parts.capture.locals.owners.onChange((services) => {
      for (const service of services) this.detector.refresh(service)
      this.#judgeAgain(services)
    })
    this.withdrawals.onChange(() => this.#judgeAgain(null))
    this.registrar.onChange(this.#parts.onOffer)
    void this.#tellFacts()
  }

  /** Certificates of these services are other ones. */
  judgeAgain(services: ReadonlySet<ServiceName>): void {
    this.#judgeAgain(services)
  }

  /** Whether this process has found out what can be offered here, and the snapshot shows it. */
  isInformed(snapshot: Snapshot): boolean {
    if (this.externals.isLooking) return false
    const { owners } = this.#parts.capture.locals
    return this.policies.manifests.manifests.every((manifest) => {
      const { service, port } = manifest
      if (port === undefined) return true
      switch (this.registrar.withheld(service)) {
        case null:
          return showsOwn(snapshot, service)
        case 'no-tunnel':
        case 'not-asked':
          return false
        case 'not-healthy':
          return (
            this.health.statusOf(service)?.state !== 'starting' &&
            owners.isOthers(manifest) !== null
          )
        case 'others-port':
        case 'no-certificate':
        case 'drained':
          return true
      }
    })
  }

  /** Nothing is told any more; checks and files go on until `stop`. */
  quiet(): void {
    this.#fitnessChanged.stop()
    this.policies.manifests.stop()
    this.#plainReach.stop()
    this.registrar.stop()
    this.externals.stop()
    this.#externalNames.stop()
  }

  async stop(): Promise<void> {
    await Promise.all([
      this.watcher.stop(),
      this.policies.files.stop(),
      this.health.stop(),
      this.detector.stop(),
    ])
    await this.#versions.stop()
    await this.#kept.stop()
  }

  #onManifests(): void {
    const { manifests, known } = this.policies.manifests
    this.#ofUsers = new Map(
      manifests.flatMap((one) => (one.owner === undefined ? [] : [[one.service, one] as const])),
    )
    // What is outside has no user here, and no port to lock.
    const inside = known.filter(({ external }) => external === undefined)
    // Before anybody is asked: whose are the ports?
    this.#parts.capture.locals.setManifests(inside)
    this.health.apply(manifests)
    // Where a service that is checked anew listens is looked at when it has come up.
    const plain = this.#plainReach.lookIfNews()
    this.detector.apply(manifests)
    this.externals.setManifests(manifests)
    const { offer } = this.registrar
    this.registrar.setManifests(manifests)
    // Whoever hears of another offer has done the rest already.
    if (this.registrar.offer === offer) this.#parts.onOffer()
    // Another policy lets others be called in plain.
    if (plain.size > 0) this.#judgeAgain(plain)
  }

  /** A host may serve a thousand services, of which one has changed. */
  #judgeAgain(services: Iterable<ServiceName> | null): void {
    if (services === null) this.#toJudge = null
    else for (const service of services) this.#toJudge?.add(service)
    this.#fitnessChanged.ask()
  }

  #onFitness(): void {
    const some = this.#toJudge
    this.#toJudge = new Set()
    const plain = this.#plainReach.lookIfNews(some)
    const services = some?.union(plain) ?? null
    this.registrar.refresh(services)
    this.#parts.onFitness(services)
  }

  /** Facts are nice to have: a machine that does not tell them serves as well. */
  async #tellFacts(): Promise<void> {
    try {
      this.registrar.setFacts(await askHostFacts())
    } catch (error) {
      this.#parts.logger.debug({ problem: messageOf(error) }, 'the machine tells no facts')
    }
  }

  #isUp(service: ServiceName): boolean {
    const state = this.health.statusOf(service)?.state
    return state !== undefined && isUp(state)
  }

  #isPortUp(service: ServiceName, name: PortName): boolean {
    const health = this.health.statusOf(service)
    const state = health === null ? 'failing' : stateOfPort(health, name)
    if (state !== 'starting') return isUp(state)
    const record = this.registrar.offer.offered.find((one) => one.service === service)
    return record?.ports?.some((one) => one.name === name && one.down !== true) === true
  }

  /** Why a check of a service may not run: the agent asks nobody's socket for another user. */
  async #whyNot(manifest: Manifest): Promise<string> {
    if (manifest.owner === undefined) return ''
    const { locals } = this.#parts.capture
    // What is known does not wait for a look, which takes as long as the slowest question for a user.
    if (locals.owners.isOthers(manifest) === null) await locals.looked()
    const isOthers = locals.owners.isOthers(manifest)
    if (isOthers === null) return 'it is not known who listens at its port'
    return isOthers ? `not asked: another user than ${manifest.owner} listens at its port` : ''
  }

  /** Whether nobody but the user whose manifest it is listens at the ports of a service. */
  #isOwn(service: ServiceName): boolean {
    const manifest = this.#ofUsers.get(service)
    return manifest === undefined || this.#parts.capture.locals.owners.isOthers(manifest) === false
  }

  /** While the first checks of a changed manifest run, what was said before still counts. */
  #isHealthy(manifest: Manifest): boolean {
    const { service } = manifest
    const state = this.health.statusOf(service)?.state
    const isKnown = this.#parts.capture.locals.owners.isOthers(manifest) !== null
    if (isKnown && state !== 'starting') return state !== undefined && isUp(state)
    return this.registrar.offeredOf(service) !== null
  }
}

/** Whether callers find this host's instance of a service in the snapshot. */
function showsOwn({ services, host }: Snapshot, service: ServiceName): boolean {
  if (!Object.hasOwn(services, service)) return false
  return services[service]?.instances.some((instance) => instance.host === host) === true
}
