/**
 * Composition root of the control process: identity, capture, the workers' hub, and what is composed
 * of rooms beside it. Here stands who is told of what by whom, and the order in which all of it starts
 * and stops. It carries no traffic; when it ends, workers go on.
 */

import { mkdirSync } from 'node:fs'
import { Answers } from './answers.ts'
import type { AgentConfig } from './config.ts'
import { ownPortsOf, workersOf } from './config-slices.ts'
import { listenersOf } from './discovery/listeners.ts'
import { HostIdentity } from './identity/host-identity.ts'
import { HostCapture } from './interception/host-capture.ts'
import { freePortRange } from './kernel/local-ports.ts'
import { MeshNames } from './mesh-names.ts'
import { MeshView } from './mesh-view.ts'
import { OwnServices } from './own-services.ts'
import type { Clock, Random } from './platform.ts'
import { OwnRecords } from './registration/own-records.ts'
import type { ReloadCommandParts } from './reload-command.ts'
import { workerSocketPath } from './workers/socket-path.ts'
import { WorkerHub } from './workers/worker-hub.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import { parsePort, type ServiceName } from '#shared/model/names.ts'
import type { LocalInstance } from '#shared/model/snapshot.ts'

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
  readonly #capture: HostCapture
  readonly #own: OwnServices
  readonly #view: MeshView
  readonly #names: MeshNames
  readonly #answers: Answers
  readonly #ended = Promise.withResolvers<number>()
  #serial = ''
  #leave = false
  #stopping = false

  constructor(parts: AppParts, config: AgentConfig) {
    const { logger, clock } = parts
    const { paths, listen, host } = config
    const records = new OwnRecords({ host })
    this.#parts = parts
    this.#config = config
    this.#hub = new WorkerHub(
      {
        clock,
        logger,
        leadsTo: (generation) => this.#capture.interception.leadsTo(generation),
        calls: {
          lookUp: (service) => this.#view.lookUp(service),
          used: (services) => this.#view.use(services),
        },
      },
      { socketPath: workerSocketPath(paths.run), ...workersOf(config, freePortRange()) },
    )
    this.#identity = new HostIdentity(
      { ...parts, workers: this.#hub, publish: (text) => records.setTrustReport(text) },
      {
        host,
        stateDirectory: paths.state,
        controllers: config.controllers,
        joinTokenFile: config.joinTokenFile,
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
    const rooms = { hub: this.#hub, identity: this.#identity, capture: this.#capture }
    this.#own = new OwnServices(
      {
        ...parts,
        ...rooms,
        records,
        carried: async () => (await this.#hub.collect()).carried,
        onOffer: () => this.#onOffer(),
        onFitness: (services) => this.#onFitness(services),
      },
      config,
    )
    this.#view = new MeshView(
      {
        ...parts,
        ...rooms,
        records,
        isInformed: (snapshot) => this.#own.isInformed(snapshot),
        toWorkers: (snapshot, provisional) => this.#hub.setSnapshot(snapshot, provisional),
        toKernel: (snapshot) => this.#capture.interception.setSnapshot(snapshot),
        onJoin: () => this.#onOffer(),
        onView: () => this.#answers.applications.refresh(),
        onStore: () => this.#answers.askForReceipts(),
      },
      config,
    )
    this.#names = new MeshNames({ ...parts, ...rooms, view: this.#view }, config)
    this.#answers = new Answers(
      {
        ...parts,
        ...rooms,
        own: this.#own,
        view: this.#view,
        names: this.#names,
        reload: { ...parts.reload, apply: (read) => this.#reconfigure(read) },
      },
      config,
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
    this.#answers.reload()
  }

  #reconfigure(config: AgentConfig): void {
    const workers = workersOf(config, freePortRange())
    // Rules and workers have to agree on it for as long as either runs.
    const callerPorts = this.#config.capture.firstPort
    this.#parts.logger.level = config.log.level
    this.#hub.configure({ ...workers, worker: { ...workers.worker, callerPorts } })
    this.#own.watcher.setUserServices(config.users)
  }

  async #start(): Promise<void> {
    const { paths } = this.#config
    const { admin, metrics, applications } = this.#answers
    makeDirectory(paths.state, 0o700)
    makeDirectory(paths.run, 0o755)
    await this.#own.load()
    this.#listen()
    const steps = [
      admin,
      metrics,
      this.#hub,
      applications,
      this.#own.policies.files,
      this.#own.watcher,
      this.#capture.interception,
      this.#names,
      this.#identity.keeper,
    ]
    for (const step of steps) {
      if (this.#stopping) return
      await step.start()
    }
  }

  async #stopAll(): Promise<void> {
    const leave = { leave: this.#leave }
    this.#stopping = true
    this.#view.quiet()
    this.#answers.quiet()
    this.#own.quiet()
    this.#identity.reporter.stop()
    // Before anything else goes: what is captured must have somewhere to go.
    await this.#names.stop()
    await this.#capture.interception.stop(leave)
    await this.#view.stop(leave)
    await Promise.all([
      this.#own.stop(),
      this.#identity.keeper.stop(),
      this.#answers.close(),
      this.#hub.stop(),
    ])
    await this.#answers.stop(leave)
  }

  /** Who is told of what. Every handler reads the newest of everything, so order does not matter. */
  #listen(): void {
    const { trust, keeper, reporter } = this.#identity
    this.#own.listen()
    keeper.onChange(() => this.#onIdentity())
    this.#hub.onChange(() => this.#onWorkers())
    trust.onChange((now) => {
      this.#hub.setTrust(now)
      this.#own.policies.setMesh(now.policies)
      this.#view.membership?.discovery.setBanned(Object.keys(now.bans.hosts))
      reporter.ask()
    })
  }

  #onOffer(): void {
    const { offer } = this.#own.registrar
    const { policies, externals } = this.#own
    const { manifests } = policies.manifests
    const { membership } = this.#view
    // Draining instances keep their certificates until they are gone, and no longer.
    const wanted = new Set<ServiceName>(offer.local.map(({ service }) => service))
    for (const { service, port, run } of manifests) {
      if (port !== undefined || run !== undefined) wanted.add(service)
    }
    this.#identity.want(wanted)
    policies.update(offer.local)
    this.#capture.locals.setGuarded(policies.strict)
    membership?.onDemand.pin(usedBy(manifests, offer.local))
    membership?.discovery.setLocal({
      ...offer,
      listeners: listenersOf(manifests),
      external: externals.views,
      policies: policies.policies,
    })
    this.#answers.askForReceipts()
  }

  #onIdentity(): void {
    const { keeper, refusal } = this.#identity
    const { mesh, host } = keeper
    if (mesh !== null && host !== null) {
      this.#hub.setCredentials(keeper.credentials)
      this.#view.join(mesh.trustDomain).catch((error: unknown) => this.#ended.reject(error))
      if (this.#serial !== '' && this.#serial !== host.serial) {
        this.#view.membership?.link.renew('the host’s certificate was renewed')
      }
      this.#serial = host.serial
    } else if (refusal !== null) this.#ended.reject(refusal)
    this.#own.judgeAgain(this.#identity.renewed())
  }

  #onFitness(services: ReadonlySet<ServiceName> | null): void {
    this.#view.refresh()
    this.#identity.reporter.ask()
    this.#answers.askForReceipts(services ?? this.#own.served)
  }

  #onCapture(): void {
    this.#names.refresh()
    this.#hub.refresh()
    this.#answers.applications.refresh()
    this.#answers.showReceipts()
  }

  #onWorkers(): void {
    this.#capture.interception.refresh()
    this.#identity.reporter.ask()
    const port = parsePort(this.#hub.tunnelPort)
    if (port.ok) this.#own.registrar.setTunnelPort(port.value)
  }
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
