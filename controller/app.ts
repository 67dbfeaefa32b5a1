/**
 * Owns how the controller is put together: ports first, so that a start that cannot be leaves nothing
 * behind, then store, CA and API; taken apart with the ports first. The only controller file, beside
 * main, that knows all rooms, and longer than others for that.
 */

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { controllerMetrics } from '#shared/metrics/names.ts'
import { renderMetrics } from '#shared/metrics/registry.ts'
import type { MetricSeries } from '#shared/metrics/registry.ts'
import { controllerDnsName, storeDnsName } from '#shared/model/spiffe-id.ts'
import { noBans } from '#shared/model/trust.ts'
import { BanList } from '#shared/pki/ban-list.ts'
import type { Svid } from '#shared/pki/svid.ts'
import { formatHostPort } from '#shared/rpc/host-port.ts'
import type { HostPort } from '#shared/rpc/host-port.ts'
import type { MeshDescription, StoreDescription } from '#shared/rpc/host-messages.ts'
import { MtlsServer } from '#shared/rpc/mtls-server.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { advertisedProblem } from './api/advertised-address.ts'
import { MetricsServer } from './api/metrics-server.ts'
import { Authority } from './ca/authority.ts'
import { readCaState } from './ca/ca-state.ts'
import { HostLedger } from './ca/host-ledger.ts'
import { Intermediates } from './ca/intermediates.ts'
import { Journal } from './ca/journal.ts'
import { OwnCredentials } from './ca/own-credentials.ts'
import { RefusedRecords } from './ca/refused-records.ts'
import { Rotator } from './ca/rotator.ts'
import type { TrustLedgerParts } from './ca/trust-ledger.ts'
import { TrustLedger } from './ca/trust-ledger.ts'
import type { ControllerConfig } from './config.ts'
import { credentialSeries } from './credential-series.ts'
import { Membership } from './leader/membership.ts'
import { serveApi, type ServedApiParts } from './served-api.ts'
import { EmbeddedStore, storeFile } from './store/embedded-store.ts'
import { movedWords, storeSeries } from './store/report.ts'
import { EtcdNodes } from './store/etcd-nodes.ts'
import { ExternalStores, isSecure } from './store/external-stores.ts'
import { FirstAnswer } from './store/first-answer.ts'
import type { HostAccess } from './store/host-access.ts'
import { AccessInForce, EtcdHostAccess, noHostAccess } from './store/host-access.ts'

/** What the controller leans on. */
export interface ControllerParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

/** Ports that were opened. */
export interface ControllerPorts {
  readonly api: number
  /** 0 with an external etcd. */
  readonly store: number
  readonly metrics: number
}

const apiGraceMs = 2000
/** Shorter ones are for trials, and warned of. */
const shortTtlMs = 60_000
/** A rotation of the root makes no host renew faster than this. */
const mostSpreadMs = 600_000
/** Watches never end by themselves, and every other call takes milliseconds. */
const storeGraceMs = 250
/** etcd's own limit on a request is 1.5 MiB. */
const maxStoreRequestBytes = 2 * 1024 * 1024

/** See the header. */
export class Controller {
  readonly #parts: ControllerParts
  readonly #config: ControllerConfig
  readonly #calls = new Map<string, MetricSeries>()
  /** Ports that are open, to be closed before what stands behind them. */
  readonly #open = new AsyncDisposableStack()
  /** What was started, to be stopped in reverse. */
  readonly #started = new AsyncDisposableStack()
  #waitsFor: () => string = () => 'the start'
  #certificates: () => readonly MetricSeries[] = () => []
  #storeSeries: () => readonly MetricSeries[] = () => []
  #journalLost: () => number = () => 0
  #refusedRecords: () => readonly MetricSeries[] = () => []
  #leads: () => boolean = () => false
  /** Nobody is let in before the CA is open, so nobody has to be refused. */
  #bans: BanList

  constructor(parts: ControllerParts, config: ControllerConfig) {
    this.#parts = parts
    this.#config = config
    this.#bans = new BanList(noBans, config.trustDomain)
  }

  /** Starts everything; nothing is left running when it throws. Throws MeshError. */
  async start(): Promise<ControllerPorts> {
    try {
      return await this.#start()
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** Stops everything; open calls get two seconds. Idempotent. */
  async stop(): Promise<void> {
    this.#waitsFor = () => 'the end'
    await this.#open.disposeAsync()
    await this.#started.disposeAsync()
  }

  async #start(): Promise<ControllerPorts> {
    const config = this.#config
    const { clock, random, logger } = this.#parts
    if (config.leafTtlMs < shortTtlMs) {
      const seconds = config.leafTtlMs / 1000
      const doubt = 'certificates this short outlive no outage of the controller worth the name'
      logger.warn({ seconds }, `leafTtlSeconds is below a minute: ${doubt}`)
    }
    // Looked at before anything is made, so that a newer version's directory stays as it is.
    await readCaState(config.state)
    const api = this.#server('api', config.listen.api, true)
    const storeServer =
      config.store.kind === 'embedded' ? this.#server('store', config.listen.store, false) : null
    const metrics = this.#metricsServer({ api, store: storeServer })
    // Bound before anything is written; until there is a credential, every handshake fails.
    const ports = {
      api: (await api.listen()).port,
      store: (await storeServer?.listen())?.port ?? 0,
      metrics: (await metrics.listen()).port,
    }
    await makeDirectory(config.state)
    const embedded = this.#openEmbedded()
    const external = new ExternalStores({ clock, random }, { trustDomain: config.trustDomain })
    this.#started.defer(() => external.stop())
    const { store, access: first } =
      embedded === null
        ? this.#openExternal(external)
        : { store: embedded.keyValue, access: this.#accessOf(embedded, external) }
    const access = new AccessInForce(first)
    const address = formatHostPort(config.advertise, ports.api)
    const membership = new Membership(
      { store, clock, random, logger: logger.child({ component: 'leader' }) },
      { name: config.name, address },
    )
    const journal = this.#openJournal(store, membership)
    if (embedded !== null) this.#storeSeries = () => storeSeries(embedded)
    const refused = new RefusedRecords({ logger })
    this.#refusedRecords = () => refused.series
    const authority = await Authority.open(
      { clock, random, logger, onIssued: (facts) => journal.record(facts) },
      {
        stateDirectory: config.state,
        trustDomain: config.trustDomain,
        leafTtlMs: config.leafTtlMs,
      },
    )
    const isLeader = (): boolean => membership.isLeader
    const ledger = await this.#openLedger({ authority, store, refused, isLeader })
    const hosts = await HostLedger.open(
      { authority, store, clock, logger, refused, isLeader },
      { stateDirectory: config.state },
    )
    if (embedded !== null && storeServer !== null) {
      // Before a host is heard, what its record says is known.
      await hosts.compare()
      embedded.serve(
        storeServer.identified,
        (call) => storeServer.identify(call),
        (host) => hosts.find(host)?.services ?? [],
      )
    }
    const own = new OwnCredentials(
      {
        authority,
        clock,
        random,
        logger,
        onServerCredential(credential) {
          api.setCredential(credential)
          storeServer?.setCredential(credential)
          external.setCredential(credential)
        },
      },
      { name: config.name, stateDirectory: config.state },
    )
    const { leafTtlMs } = config
    const endpoints = config.store.kind === 'etcd' ? config.store.endpoints : []
    const rotator = new Rotator(
      {
        authority,
        ledger,
        hosts,
        store,
        clock,
        logger,
        membership,
        intermediates: new Intermediates(
          { authority, store, clock, logger, refused },
          { controller: config.name },
        ),
        storeNodes: new EtcdNodes({ authority, clock }, { controller: config.name, endpoints }),
        onStep: () => own.renew(),
      },
      { controller: config.name, leafTtlMs },
    )
    const describe = this.#describe({ authority, ledger, membership }, ports.store)
    const behind = { store, embedded, access, external, journal, membership, describe }
    const issues = { authority, ledger, hosts, rotator, bans: () => this.#bans }
    const onAnswer = (method: string, code: string): void => this.#count(method, code)
    serveApi(api, { clock, random, logger, ...behind, ...issues, onAnswer }, config)
    this.#certificates = () => credentialSeries({ authority, own, ledger })
    await own.start()
    this.#started.defer(() => own.stop())
    await own.writeOperatorFile(address)
    // Not awaited: an external store that is away must delay no start.
    void ledger.start()
    this.#started.defer(() => ledger.stop())
    void hosts.start()
    this.#started.defer(() => hosts.stop())
    rotator.start()
    this.#started.defer(() => rotator.stop())
    const ready = (): void => {
      // Not awaited: whoever leads, this controller serves.
      void membership.start()
      const { name, trustDomain } = config
      logger.info({ controller: name, trustDomain, ...ports }, 'ready')
    }
    if (config.store.kind === 'etcd') await this.#awaitStore(store, config.store.endpoints, ready)
    else {
      this.#waitsFor = () => movedWords(embedded)
      ready()
    }
    this.#started.defer(() => membership.stop())
    this.#leads = () => membership.isLeader
    // Not awaited: a name server that is away must delay no start.
    void this.#doubtAdvertised()
    return ports
  }

  /** Bans count from the first handshake on. */
  async #openLedger(rooms: Omit<TrustLedgerParts, 'clock' | 'logger'>): Promise<TrustLedger> {
    const { clock, logger } = this.#parts
    const { state: stateDirectory, leafTtlMs, trustDomain } = this.#config
    const spreadMs = Math.round(Math.min(mostSpreadMs, leafTtlMs / 4))
    const ledger = await TrustLedger.open({ ...rooms, clock, logger }, { stateDirectory, spreadMs })
    const take = (): void => {
      this.#bans = new BanList(ledger.bans, trustDomain)
    }
    take()
    ledger.onChange(take)
    return ledger
  }

  async #doubtAdvertised(): Promise<void> {
    const { advertise } = this.#config
    const problem = await advertisedProblem(advertise)
    if (problem !== '') this.#parts.logger.warn({ advertise }, problem)
  }

  /** An external store may come later than the controller; only readiness waits for it. */
  async #awaitStore(
    store: KeyValue,
    endpoints: readonly string[],
    onAnswer: () => void,
  ): Promise<void> {
    const { clock, random, logger } = this.#parts
    const first = new FirstAnswer({ store, clock, random, logger, onAnswer }, { endpoints })
    this.#started.defer(() => first.stop())
    this.#waitsFor = () => first.waitsFor
    await first.start()
  }

  #openEmbedded(): EmbeddedStore | null {
    const { clock, random, logger } = this.#parts
    if (this.#config.store.kind !== 'embedded') return null
    const file = join(this.#config.state, storeFile)
    const store = EmbeddedStore.open(
      { clock, random, logger: logger.child({ component: 'store' }) },
      { file },
    )
    this.#started.defer(() => store.stop())
    return store
  }

  /** Over plain HTTP nobody can be told from anybody, so there is no access to grant. */
  #openExternal(external: ExternalStores): {
    readonly store: KeyValue
    readonly access: HostAccess
  } {
    const { store } = this.#config
    const endpoints = store.kind === 'etcd' ? store.endpoints : []
    const client = external.open(endpoints)
    const logger = this.#parts.logger.child({ component: 'store' })
    return {
      store: client.store,
      access: isSecure(endpoints)
        ? new EtcdHostAccess({ auth: client.auth, logger })
        : noHostAccess,
    }
  }

  /** A store that has moved lets hosts write there what they are certified for here. */
  #accessOf(embedded: EmbeddedStore, external: ExternalStores): HostAccess {
    const { movedTo } = embedded
    const endpoints = movedTo.split(',')
    if (movedTo !== '') this.#parts.logger.error({ movedTo }, movedWords(embedded))
    if (movedTo === '' || !isSecure(endpoints)) return noHostAccess
    const logger = this.#parts.logger.child({ component: 'store' })
    return new EtcdHostAccess({ auth: external.open(endpoints).auth, logger })
  }

  #openJournal(store: KeyValue, membership: Membership): Journal {
    const { clock, random, logger } = this.#parts
    const journal = new Journal(
      { store, clock, random, logger, isLeader: () => membership.isLeader },
      { controller: this.#config.name },
    )
    this.#started.defer(() => journal.stop())
    this.#journalLost = () => journal.lost
    return journal
  }

  #server(component: string, listen: HostPort, anonymous: boolean): MtlsServer {
    const { clock, logger } = this.#parts
    const { trustDomain } = this.#config
    const refusalOf = (svid: Svid): string => this.#bans.refusal(svid)
    const server = new MtlsServer(
      {
        clock,
        logger: logger.child({ component }),
        // The API answers whoever is banned, so that an agent can tell why.
        ...(component === 'store' ? { refusalOf } : {}),
      },
      {
        trustDomain,
        listen,
        anonymous,
        ...(component === 'store' ? { maxRequestBytes: maxStoreRequestBytes } : {}),
      },
    )
    this.#open.defer(() => server.stop(component === 'store' ? storeGraceMs : apiGraceMs))
    return server
  }

  #describe(
    rooms: Pick<ServedApiParts, 'authority' | 'ledger' | 'membership'>,
    storePort: number,
  ): () => MeshDescription {
    const { authority, ledger, membership } = rooms
    const { advertise, name, trustDomain, store } = this.#config
    const description: StoreDescription =
      store.kind === 'etcd'
        ? {
            kind: 'etcd',
            endpoints: store.endpoints,
            serverName: isSecure(store.endpoints) ? storeDnsName(trustDomain) : '',
          }
        : {
            kind: 'embedded',
            endpoints: [`https://${formatHostPort(advertise, storePort)}`],
            serverName: controllerDnsName(trustDomain, name),
          }
    return () => ({
      trustDomain,
      trustBundlePem: authority.bundlePem,
      store: description,
      controller: name,
      controllers: membership.controllers.map(({ address }) => address),
      trustRecords: ledger.records,
    })
  }

  #count(method: string, code: string): void {
    const key = `${method} ${code}`
    const value = (this.#calls.get(key)?.value ?? 0) + 1
    this.#calls.set(key, { metric: controllerMetrics.calls.name, labels: { method, code }, value })
  }

  #metricsServer(servers: {
    readonly api: MtlsServer
    readonly store: MtlsServer | null
  }): MetricsServer {
    const open = (port: string, value: number): MetricSeries => ({
      metric: controllerMetrics.connectionsOpen.name,
      labels: { port },
      value,
    })
    const series = (): MetricSeries[] => [
      ...this.#calls.values(),
      open('api', servers.api.connections),
      ...(servers.store === null ? [] : [open('store', servers.store.connections)]),
      ...this.#certificates(),
      ...this.#storeSeries(),
      ...this.#refusedRecords(),
      { metric: controllerMetrics.leader.name, labels: {}, value: this.#leads() ? 1 : 0 },
      { metric: controllerMetrics.journalLost.name, labels: {}, value: this.#journalLost() },
    ]
    const server = new MetricsServer(
      {
        render: () => renderMetrics(Object.values(controllerMetrics), series()),
        waitsFor: () => this.#waitsFor(),
      },
      { listen: this.#config.listen.metrics },
    )
    this.#open.defer(() => server.stop())
    return server
  }
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new MeshError(`cannot make the state directory ${path}: ${messageOf(error)}`, {
      code: 'state-unwritable',
      hint: 'mesh-controller must run as the user that owns its state directory',
      cause: error,
    })
  }
}
