/**
 * Composition root of the control process: manifests, health, identity, registration, discovery and
 * the workers' hub, wired together. It carries no traffic; when it ends, workers go on.
 */

import { mkdirSync, readFileSync } from 'node:fs'
import { AdminServer } from './admin/admin-server.ts'
import { MetricsServer } from './admin/metrics-server.ts'
import type { AgentConfig } from './config.ts'
import { DiskCache } from './discovery/disk-cache.ts'
import { Discovery } from './discovery/discovery.ts'
import { listenersOf } from './discovery/listeners.ts'
import { AgentReport } from './agent-report.ts'
import { HealthBoard } from './health/health-board.ts'
import { GrpcControllerPort } from './identity/controller-port.ts'
import { IdentityFiles } from './identity/identity-files.ts'
import { IdentityKeeper } from './identity/identity-keeper.ts'
import type { MeshFacts } from './identity/mesh-facts.ts'
import { GoodVersions } from './manifests/good-versions.ts'
import type { ReceiptFacts, Verdict } from './manifests/receipt.ts'
import { Receipts } from './manifests/receipts.ts'
import { ManifestWatcher } from './manifests/watcher.ts'
import type { Clock, Random } from './platform.ts'
import { Registrar } from './registration/registrar.ts'
import { WorkerHub } from './workers/worker-hub.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { parsePort, type ServiceName } from '#shared/model/names.ts'
import { serviceId } from '#shared/model/spiffe-id.ts'
import { formatHostPort } from '#shared/rpc/host-port.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { meshPrefix } from '#shared/store/keys.ts'
import { StoreLink } from '#shared/store/link.ts'

/** What the control process is made with. */
export interface AppParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly pid: number
  readonly version: string
}

/** DESIGN: the lease outlives a restart of the control process. */
const leaseTtlMs = 15_000

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

/** Failures of the host's identity that waiting may mend: a token or a controller may still come. */
const waitsForHelp: ReadonlySet<string> = new Set([
  'not-enrolled',
  'host-certificate-ended',
  'host-file-damaged',
])

/** See the header. */
export class App {
  readonly #parts: AppParts
  readonly #config: AgentConfig
  readonly #keeper: IdentityKeeper
  readonly #versions: GoodVersions
  readonly #watcher: ManifestWatcher
  readonly #receipts: Receipts
  readonly #health: HealthBoard
  readonly #registrar: Registrar
  readonly #hub: WorkerHub
  readonly #report: AgentReport
  readonly #admin: AdminServer
  readonly #metrics: MetricsServer
  readonly #ended = Promise.withResolvers<number>()
  #membership: Membership | null = null
  #published: Published = { desired: new Map(), farewells: new Map() }
  #serial = ''
  #stopped = false

  constructor(parts: AppParts, config: AgentConfig) {
    const { logger, clock } = parts
    const { paths, listen, host } = config
    this.#parts = parts
    this.#config = config
    this.#keeper = new IdentityKeeper(
      {
        ...parts,
        controller: new GrpcControllerPort(
          { clock },
          { address: formatHostPort(config.controller.host, config.controller.port) },
        ),
        files: new IdentityFiles({ stateDirectory: paths.state, host }),
        joinToken: () => readJoinToken(config.joinTokenFile),
      },
      { host },
    )
    this.#versions = new GoodVersions(parts, { stateDirectory: paths.state })
    this.#watcher = new ManifestWatcher(
      { clock, logger, goodVersions: this.#versions },
      { directory: paths.manifests },
    )
    this.#receipts = new Receipts(parts, { runDirectory: paths.run })
    this.#health = new HealthBoard(parts)
    this.#registrar = new Registrar(
      {
        clock,
        logger,
        publish: (desired, farewells) => {
          this.#published = { desired, farewells }
          this.#membership?.link.publish(desired, farewells)
        },
        fitnessOf: (service) => ({
          healthy: this.#health.statusOf(service)?.state === 'passing',
          certified: this.#isCertified(service),
        }),
      },
      { host, address: config.address, zone: config.zone, version: parts.version },
    )
    this.#hub = new WorkerHub(
      { clock, logger },
      {
        socketPath: `${paths.run}/workers.sock`,
        worker: {
          tunnel: listen.tunnel,
          forwardProxy: listen.forwardProxy,
          explicitAddress: listen.explicit,
          inboundSource: config.inboundSource,
          accessLog: config.accessLog,
        },
      },
    )
    this.#report = new AgentReport(
      {
        clock,
        keeper: this.#keeper,
        watcher: this.#watcher,
        health: this.#health,
        registrar: this.#registrar,
        hub: this.#hub,
        membership: () => this.#membership,
      },
      { config, version: parts.version, pid: parts.pid },
    )
    this.#admin = new AdminServer(
      { source: this.#report, logger },
      { socketPath: `${paths.run}/agent.sock` },
    )
    this.#metrics = new MetricsServer({ source: this.#report, logger }, listen.metrics)
  }

  /** Runs until stopped; rejects where it cannot start, or the controller refuses this host. */
  async run(): Promise<number> {
    const { paths } = this.#config
    makeDirectory(paths.state, 0o700)
    makeDirectory(paths.run, 0o755)
    try {
      await this.#admin.start()
      await this.#metrics.start()
      await this.#hub.start()
      this.#listen()
      await this.#watcher.start()
      await this.#keeper.start()
      return await this.#ended.promise
    } catch (error) {
      await this.#stopAll(false)
      throw error
    }
  }

  /**
   * Ends the control process. `leave` says goodbye for everything this host published; otherwise
   * the lease keeps it, so that the next process takes over without anybody noticing.
   */
  async stop(options: { readonly leave: boolean }): Promise<void> {
    if (this.#stopped) return
    this.#parts.logger.info(options, 'agent: running -> stopping')
    await this.#stopAll(options.leave)
    this.#ended.resolve(0)
  }

  async #stopAll(leave: boolean): Promise<void> {
    this.#stopped = true
    this.#registrar.stop()
    await this.#membership?.link.stop({ withdraw: leave })
    await this.#membership?.discovery.stop()
    await Promise.all([
      this.#watcher.stop(),
      this.#health.stop(),
      this.#keeper.stop(),
      this.#admin.stop(),
      this.#metrics.stop(),
      this.#hub.stop(),
    ])
    await Promise.all([this.#versions.stop(), this.#receipts.stop()])
  }

  /** Who is told of what. Every handler reads the newest of everything, so order does not matter. */
  #listen(): void {
    this.#watcher.onChange(() => this.#onManifests())
    this.#health.onChange(() => {
      this.#registrar.refresh()
      this.#showReceipts()
    })
    this.#keeper.onChange(() => this.#onIdentity())
    this.#hub.onChange(() => this.#onWorkers())
    this.#registrar.onChange(() => this.#onOffer())
  }

  #onManifests(): void {
    const { manifests } = this.#watcher
    this.#health.apply(manifests)
    this.#registrar.setManifests(manifests)
    this.#want()
    this.#onOffer()
  }

  /** Draining instances keep their certificates until they are gone. */
  #want(): void {
    const wanted = new Set<ServiceName>(this.#registrar.offer.local.map(({ service }) => service))
    for (const { service, port } of this.#watcher.manifests) {
      if (port !== undefined) wanted.add(service)
    }
    this.#keeper.want(wanted)
  }

  #onOffer(): void {
    this.#membership?.discovery.setLocal({
      ...this.#registrar.offer,
      listeners: listenersOf(this.#watcher.manifests),
    })
    this.#showReceipts()
  }

  #onIdentity(): void {
    const { mesh, host, problems } = this.#keeper
    if (mesh !== null && host !== null) {
      this.#hub.setTrust(mesh.trustBundlePem, mesh.trustDomain)
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
    this.#registrar.refresh()
    this.#showReceipts()
  }

  #onWorkers(): void {
    const newest = this.#hub.workers.toSorted((a, b) => b.generation - a.generation)[0]
    const port = parsePort(newest?.listening.tunnelPort ?? 0)
    if (port.ok) this.#registrar.setTunnelPort(port.value)
  }

  /** Begins to follow the store, once, when the mesh is known. */
  async #join(mesh: MeshFacts): Promise<void> {
    if (this.#membership !== null) return
    const { clock, logger } = this.#parts
    const { host, paths } = this.#config
    const { trustDomain } = mesh
    const link = new StoreLink(
      { ...this.#parts, connect: async () => this.#openStore() },
      { prefix: meshPrefix, leaseTtlMs },
    )
    const cache = new DiskCache({ stateDirectory: paths.state, host, trustDomain })
    const discovery = new Discovery({ clock, logger, store: link, cache }, { host, trustDomain })
    this.#membership = { mesh, link, discovery }
    discovery.onChange((snapshot) => this.#hub.setSnapshot(snapshot))
    link.onPublished(() => this.#showReceipts())
    await discovery.start()
    if (this.#stopped) return
    const { desired, farewells } = this.#published
    link.publish(desired, farewells)
    this.#onOffer()
    link.start()
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

  #isCertified(service: ServiceName): boolean {
    const trustDomain = this.#keeper.mesh?.trustDomain
    if (trustDomain === undefined) return false
    const id = serviceId(trustDomain, service)
    const now = this.#parts.clock.now()
    return this.#keeper.credentials.some((one) => one.id === id && one.notAfterMs > now)
  }

  #showReceipts(): void {
    this.#receipts.show(this.#watcher.verdicts, (verdict) => this.#receiptFacts(verdict))
  }

  #receiptFacts({ manifest }: Verdict): ReceiptFacts {
    if (manifest?.port === undefined) return {}
    return this.#report.receiptFacts(manifest.service)
  }
}

/** The token, or null while there is none. */
async function readJoinToken(file: string | null): Promise<string | null> {
  if (file === null) return null
  try {
    return readFileSync(file, 'utf8').trim() || null
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new MeshError(`cannot read the join token ${file}: ${messageOf(error)}`, {
      code: 'token-unreadable',
      hint: 'the file must be readable by the agent’s user',
      cause: error,
    })
  }
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
