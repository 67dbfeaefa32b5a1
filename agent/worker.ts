/**
 * Composition root of a proxy worker: the data plane of a host, wired together. It takes snapshots,
 * credentials and trust from the control process and goes on with the last ones when that is away. Longer
 * than most files, because everything a worker is made of is put in its place here.
 */

import type { Socket } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { ChannelPool, idleMsFor } from './tunnel/channel-pool.ts'
import { TunnelListener } from './tunnel/tunnel-listener.ts'
import { askHost } from './tunnel/ask-host.ts'
import { Tunnels } from './tunnel/tunnels.ts'
import { HeldBytes } from './http2/held-bytes.ts'
import { Credentials } from './identity/credentials.ts'
import { Inbound } from './inbound/inbound.ts'
import { LocalInstances } from './inbound/local-instances.ts'
import { callerPort } from './interception/caller-ports.ts'
import { ApplicationDoor } from './outbound/application-door.ts'
import { CapturedCallers } from './outbound/captured-callers.ts'
import { FarHosts } from './outbound/far-hosts.ts'
import { Listeners, type DesiredListener } from './outbound/listeners.ts'
import { Lookups } from './outbound/lookups.ts'
import { Outbound } from './outbound/outbound.ts'
import type { MeshEndpoint } from './outbound/mesh-endpoint.ts'
import { OutboundUpstream } from './outbound/outbound-upstream.ts'
import { RefusedCallers } from './outbound/refused-callers.ts'
import { ServiceTable } from './outbound/service-table.ts'
import { InstanceLoads } from './balance/instance-loads.ts'
import type { Clock, Random } from './platform.ts'
import { ExternalDialler } from './relay/dial-external.ts'
import { LocalDialler } from './relay/dial-local.ts'
import { httpRelayDefaults, type HttpRelaySettings } from './relay/http-relay.ts'
import { RelayWatch } from './relay/relay-watch.ts'
import { Recorder } from './telemetry/recorder.ts'
import { TrafficCounters } from './telemetry/traffic-counters.ts'
import { exitCodes } from './exit-codes.ts'
import { ControlLink } from './workers/control-link.ts'
import type {
  CaptureView,
  CredentialMessage,
  ListenerState,
  ToWorker,
  WorkerPhase,
  WorkerSettings,
} from './workers/messages.ts'
import { shareOf } from './workers/share.ts'
import { withChanges } from './workers/snapshot-changes.ts'
import { applicationSocketPath, workerSocketPath } from './workers/socket-path.ts'
import { sleep, type Timer } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'
import { externalId, hostId, serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { agentTarget, targetName } from '#shared/model/target.ts'

/** What a worker is made with. */
export interface ProxyWorkerParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Takes access lines; may drop some rather than wait. */
  readonly access: Logger
  readonly pid: number
}

/** Settings of a worker; everything else comes from the control process. */
export interface ProxyWorkerSettings {
  readonly generation: number
  readonly index: number
  readonly runDirectory: string
  readonly drainMs: number
  /** Of this program. */
  readonly version: string
}

/** Most bytes a worker holds for slow readers, all streams together. */
const heldLimitBytes = 268_435_456
const proxyName = 'forward proxy'
/** How long kept connections of a replaced generation wait for their last request. */
const lastRequestMs = 30_000
/** How long ports stay open that nothing leads to any more, for what is on its way there. */
const lingerMs = 1000
/** How often the control process hears what is called from here. */
const usedEveryMs = 10_000

/** The data plane once the first snapshot, the settings and the trust bundle are there. */
interface Plane {
  readonly loads: InstanceLoads
  readonly hosts: FarHosts
  readonly listeners: Listeners
  /** Ports of captured callers, apart: people are told of the ones they asked for. */
  readonly captured: Listeners
  readonly callers: CapturedCallers
  readonly tunnelListener: TunnelListener
  readonly tunnels: Tunnels
  readonly policies: PolicyTable
  readonly services: ServiceTable
  readonly lookups: Lookups
  readonly instances: LocalInstances
  readonly outbound: Outbound
  readonly recorder: Recorder
}

/** See the header. */
export class ProxyWorker {
  readonly #parts: ProxyWorkerParts
  readonly #settings: ProxyWorkerSettings
  readonly #link: ControlLink
  readonly #credentials: Credentials
  readonly #counters = new TrafficCounters()
  readonly #watch: RelayWatch
  readonly #door: ApplicationDoor
  readonly #ended = Promise.withResolvers<number>()
  #worker: WorkerSettings | null = null
  #trustDomain: TrustDomain | null = null
  #self: SpiffeId | null = null
  #snapshot: Snapshot | null = null
  #held = new Map<SpiffeId, CredentialMessage>()
  #capture: CaptureView | null = null
  #plane: Plane | null = null
  /** What was last said of the listeners, so that nothing is said twice. */
  #reported = ''
  #phase: WorkerPhase | null = null
  #retiringSinceMs = 0
  #capturing = ''
  /** As last told; null: as in the settings. */
  #accessLog: WorkerSettings['accessLog'] | null = null
  #takesTunnels = false
  #telling: Timer | null = null
  #stopping = false

  constructor(parts: ProxyWorkerParts, settings: ProxyWorkerSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#credentials = new Credentials(parts)
    this.#watch = new RelayWatch(parts)
    const { generation, index, runDirectory, version } = settings
    this.#door = new ApplicationDoor({ socketPath: applicationSocketPath(runDirectory) })
    const startedAtMs = parts.clock.now()
    this.#link = new ControlLink(
      {
        ...parts,
        hear: (message) => this.#hear(message),
        age: () => ({
          phase: this.#phase,
          startedAtMs,
          retiringSinceMs: this.#retiringSinceMs,
        }),
      },
      { socketPath: workerSocketPath(runDirectory), generation, index, pid: parts.pid, version },
    )
  }

  /**
   * Runs until stopped, or until a port it cannot do without is taken: then it rejects. Calls back at
   * once: it waits for its control process as long as it takes.
   */
  run(onStarted: () => void = () => {}): Promise<number> {
    this.#link.start()
    onStarted()
    return this.#ended.promise
  }

  /** Stops listening, finishes what is open within the drain time, then ends. */
  async stop(): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    const { clock, logger } = this.#parts
    logger.info({ open: this.#watch.size }, 'worker: serving -> draining')
    const plane = this.#plane
    plane?.listeners.stop()
    plane?.captured.stop()
    void plane?.tunnelListener.drain()
    const enough = new AbortController()
    await Promise.race([this.#watch.drain(), sleep(clock, this.#settings.drainMs, enough.signal)])
    enough.abort()
    logger.info({ cut: this.#watch.size }, 'worker: draining -> ended')
    this.#end(exitCodes.ok)
  }

  /** Another generation has taken over: finishes what is open, however long it takes, then ends. */
  async #retire(withinMs: number): Promise<void> {
    const { clock, logger } = this.#parts
    this.#retiringSinceMs = clock.now()
    const plane = this.#plane
    plane?.listeners.stop()
    const tunnels = plane?.tunnelListener.drain()
    const enough = new AbortController()
    const relays = this.#watch.drain({ idleMs: lastRequestMs })
    await sleep(clock, lingerMs)
    plane?.captured.stop()
    await Promise.race([
      Promise.all([relays, tunnels]).then(() => this.#watch.drain()),
      sleep(clock, withinMs, enough.signal),
    ])
    enough.abort()
    logger.info({ cut: this.#watch.size }, 'worker: retiring -> ended')
    this.#end(exitCodes.retired)
  }

  #end(code: number): void {
    this.#telling?.stop()
    this.#plane?.lookups.stop()
    this.#plane?.tunnelListener.stop()
    this.#plane?.hosts.stop()
    this.#plane?.tunnels.stop()
    this.#link.stop(this.#counters.dump())
    this.#ended.resolve(code)
  }

  #hear(message: ToWorker): void {
    switch (message.kind) {
      case 'welcome':
        this.#welcomed(message.settings)
        // A control process from before there were phases.
        if (message.protocol === 1) this.#become('live', 0)
        break
      case 'phase':
        this.#become(message.phase, message.withinMs)
        break
      case 'settings':
        this.#parts.logger.level = message.settings.logLevel
        this.#parts.access.level = message.settings.logLevel
        this.#accessLog = message.settings.accessLog
        this.#plane?.recorder.setAccessLog(message.settings.accessLog)
        break
      case 'trust':
        this.#trusts(message)
        break
      case 'credentials':
        this.#held = new Map(message.credentials.map((one) => [one.id, one]))
        this.#credentials.setCredentials(message.credentials)
        break
      case 'credential-changes':
        for (const id of message.gone) this.#held.delete(id)
        for (const one of message.changed) this.#held.set(one.id, one)
        this.#credentials.setCredentials([...this.#held.values()])
        break
      case 'snapshot':
        this.#take(message.snapshot)
        break
      case 'snapshot-changes':
        this.#take(this.#snapshot === null ? null : withChanges(this.#snapshot, message.changes))
        break
      case 'not-found':
        this.#plane?.lookups.missed(message.service, message.why)
        break
      case 'capture':
        this.#capture = message.capture
        this.#applyCapture()
        break
      case 'collect':
        this.#link.send({
          kind: 'counters',
          request: message.request,
          counters: this.#counters.dump(),
          open: this.#watch.size,
          carried: this.#plane?.loads.carried ?? [],
        })
        break
      case 'drain':
        void this.stop()
        break
    }
  }

  /** Null: changes of another snapshot than the one that is here; told afresh, all is well again. */
  #take(snapshot: Snapshot | null): void {
    if (snapshot === null) {
      this.#link.connectAgain('changes of another snapshot than ours')
      return
    }
    this.#snapshot = snapshot
    this.#self = hostId(snapshot.trustDomain, snapshot.host)
    this.#apply()
  }

  /** A control process is there, perhaps a new one: it must be told everything again. */
  #welcomed(settings: WorkerSettings): void {
    const accessLog = this.#worker?.accessLog ?? settings.accessLog
    if (this.#worker !== null && !isDeepStrictEqual(this.#worker, { ...settings, accessLog })) {
      this.#parts.logger.warn('settings have changed; they count once this worker starts again')
    }
    this.#worker ??= settings
    this.#reported = ''
    this.#capturing = ''
    this.#report()
    this.#reportCapture()
  }

  /** The control process says which generation takes connections; nobody opens ports again. */
  #become(phase: WorkerPhase, withinMs: number): void {
    if (phase === this.#phase || this.#phase === 'retiring' || this.#stopping) return
    this.#parts.logger.info(
      { open: this.#watch.size },
      `worker: ${this.#phase ?? 'new'} -> ${phase}`,
    )
    this.#phase = phase
    if (phase === 'retiring') void this.#retire(withinMs)
    else this.#open()
  }

  /** Opens the ports that all generations share, once it is this one's turn and there is a view. */
  #open(): void {
    const [plane, worker, snapshot] = [this.#plane, this.#worker, this.#snapshot]
    if (plane === null || worker === null || snapshot === null) return
    if (this.#phase !== 'live' || this.#stopping) return
    plane.listeners.apply(desiredListeners(worker, snapshot, plane.outbound))
    if (!this.#takesTunnels) {
      this.#takesTunnels = true
      this.#takeTunnels(plane.tunnelListener, worker.tunnel.address).catch((error: unknown) =>
        this.#ended.reject(error),
      )
    }
    this.#report()
  }

  #trusts(message: Extract<ToWorker, { readonly kind: 'trust' }>): void {
    const { bundlePem, trustDomain, bans, epochs } = message
    if (this.#trustDomain !== null && this.#trustDomain !== trustDomain) {
      const detail = `the host left ${this.#trustDomain} for ${trustDomain}; starting afresh`
      this.#ended.reject(new MeshError(detail, { code: 'trust-domain-changed', retry: true }))
      return
    }
    this.#trustDomain = trustDomain
    this.#credentials.setTrust(bundlePem, trustDomain, bans)
    this.#link.send({ kind: 'trusted', epochs })
    if (this.#plane === null) this.#apply()
  }

  /** Takes over the newest snapshot, once everything it takes to act on one is there. */
  #apply(): void {
    const snapshot = this.#snapshot
    const worker = this.#worker
    if (snapshot === null || worker === null || this.#trustDomain === null || this.#stopping) return
    if (this.#plane === null) {
      this.#plane = this.#build(worker, this.#trustDomain)
      this.#applyCapture()
    }
    const { policies, loads, hosts, services, lookups, instances } = this.#plane
    const isPolicyChanged = policies.apply(snapshot)
    loads.apply(snapshot.local)
    hosts.apply(snapshot.hosts)
    services.apply(snapshot)
    instances.apply(snapshot)
    lookups.apply(snapshot)
    if (isPolicyChanged) this.#watch.reconsider()
    this.#link.send({ kind: 'applied', sequence: snapshot.sequence })
    this.#open()
  }

  /** Opens a port for each caller; a connection to one that was not led there by us is not taken. */
  #applyCapture(): void {
    const [view, plane, trustDomain] = [this.#capture, this.#plane, this.#trustDomain]
    if (view === null || plane === null || trustDomain === null || this.#stopping) return
    // Its ports are closed, or close soon.
    if (this.#phase === 'retiring') return
    const { callers, captured, outbound } = plane
    callers.apply(view, trustDomain)
    const accept = (socket: Socket): void => {
      const target = callers.targetOf(socket)
      if (target === null) socket.resetAndDestroy()
      else if (target === agentTarget) this.#door.accept(socket, callers.serviceOf(socket))
      else outbound.acceptFor(target, socket)
    }
    captured.apply(
      view.callers.flatMap(({ index, service }) =>
        view.addresses.map((address): DesiredListener => ({
          name: `captured calls of ${service ?? 'others'}`,
          address,
          port: this.#callerPort(index),
          accept,
          refuse: (socket) => outbound.refuseFor(callers.targetOf(socket), socket),
        })),
      ),
    )
    this.#reportCapture()
  }

  #callerPort(index: number): number {
    return callerPort(this.#worker?.callerPorts ?? 0, this.#settings.generation, index)
  }

  #reportCapture(): void {
    if (this.#plane === null || this.#capture === null) return
    const { callers, captured } = this.#plane
    const shut = new Set(captured.states.flatMap((one) => (one.problem === '' ? [] : [one.port])))
    const open = callers.view.callers
      .map(({ index }) => index)
      .filter((index) => !shut.has(this.#callerPort(index)))
    const message = { kind: 'capturing', sequence: callers.view.sequence, open } as const
    const reported = JSON.stringify(message)
    if (reported === this.#capturing) return
    this.#capturing = reported
    this.#link.send(message)
  }

  #build(worker: WorkerSettings, trustDomain: TrustDomain): Plane {
    const { clock, logger, access } = this.#parts
    // Draws of the data path need speed, not secrecy.
    const random: Random = {
      fraction: () => Math.random(),
      bytes: (count) => this.#parts.random.bytes(count),
    }
    const credentials = this.#credentials
    const watch = this.#watch
    const held = new HeldBytes({ limitBytes: heldLimitBytes })
    const outcomes = new Recorder(
      {
        counters: this.#counters,
        log: { write: (outcome) => access.info(outcome, 'access') },
      },
      { accessLog: this.#accessLog ?? worker.accessLog },
    )
    const hosts = new FarHosts({
      clock,
      random,
      logger,
      counters: this.#counters,
      ask: (target, done) => askHost({ credentials, clock }, target, done),
      onBack: (host) => tunnels.answersAgain(host),
    })
    const handshakes =
      (direction: string) =>
      (result: string, root: string | null = null): void => {
        this.#counters.tally(agentMetrics.handshakes.name, { direction, result })
        if (root === null) return
        this.#counters.tally(agentMetrics.handshakesByRoot.name, { direction, root })
      }
    const tunnels = new Tunnels(
      {
        credentials,
        clock,
        random,
        logger,
        held,
        onHandshake: handshakes('outbound'),
        onHost: hosts,
      },
      // A lost host is out of rotation within two seconds: three silent rounds and the one before.
      { pingEveryMs: 400, missingRounds: 2, deadRounds: 6 },
    )
    const local = new LocalDialler(
      { clock, held },
      { source: worker.inboundSource, timeoutMs: 1000 },
    )
    const external = new ExternalDialler({ clock, held })
    const loads = new InstanceLoads({ shareOf: (limit) => this.#shareOf(limit, worker.workers) })
    const poolTo = ({ place }: MeshEndpoint): ChannelPool =>
      new ChannelPool(
        { clock },
        place.kind === 'local' ? { idleMs: idleMsFor(place.instance.keepAliveMs) } : {},
      )
    const services = new ServiceTable({
      clock,
      loads,
      hosts,
      onEjected: ({ service, place }) => {
        const idOf = place.kind === 'external' ? externalId : serviceId
        const destination = idOf(trustDomain, service)
        this.#counters.tally(agentMetrics.ejections.name, { destination })
      },
      makeUpstream: (endpoint, caller) =>
        new OutboundUpstream(
          { tunnels, local, external, pool: poolTo(endpoint) },
          { endpoint, caller, trustDomain },
        ),
    })
    const lookups = new Lookups({
      clock,
      ask: (service) => this.#link.send({ kind: 'wanted', service }),
    })
    this.#telling = clock.every(usedEveryMs, () => {
      const used = services.takeUsed()
      if (used.length > 0) this.#link.send({ kind: 'used', services: used })
    })
    const policies = new PolicyTable()
    const makePool = (keepAliveMs: number | undefined): ChannelPool =>
      new ChannelPool({ clock }, { idleMs: idleMsFor(keepAliveMs) })
    const instances = new LocalInstances({ local, policies, makePool, loads })
    const counters = this.#counters
    const relay = relaySettings(worker.limits)
    const inbound = new Inbound({ instances, outcomes, watch, clock, random, counters }, { relay })
    const tunnelListener = new TunnelListener(
      {
        credentials,
        clock,
        logger,
        held,
        onHandshake: handshakes('inbound'),
        onStream: (call) => inbound.accept(call),
      },
      { ...worker.tunnel, trustDomain, reusePort: true },
    )
    const callers = new CapturedCallers({ portOf: (index) => this.#callerPort(index) })
    const outbound = new Outbound(
      {
        held,
        services,
        lookups,
        policies,
        outcomes,
        watch,
        clock,
        random,
        counters,
        callerOf: (socket) => callers.callerOf(socket) ?? this.#self,
        refused: new RefusedCallers({ clock, logger, outcomes, counters }, worker),
      },
      { relay },
    )
    const shared = {
      // With other workers, and with the generation that takes over.
      reusePort: true,
      maxConnections: this.#shareOf(worker.maxConnections, worker.workers),
    }
    const listeners = new Listeners(
      {
        clock,
        random,
        logger,
        onChange: () => this.#report(),
        onFailed: (listener) => this.#onFailed(listener),
      },
      shared,
    )
    const captured = new Listeners(
      {
        clock,
        random,
        logger,
        onChange: () => this.#reportCapture(),
        onFailed: () => this.#reportCapture(),
      },
      shared,
    )
    const reach = { policies, loads, hosts, services, lookups, instances }
    const ports = { listeners, captured, callers, tunnelListener, tunnels }
    const plane = { ...reach, ...ports, outbound, recorder: outcomes }
    this.#measure(plane, held)
    return plane
  }

  #shareOf(limit: number, workers: number): number {
    return shareOf(limit, this.#settings.index, workers)
  }

  async #takeTunnels(listener: TunnelListener, address: string): Promise<void> {
    await listener.listen()
    this.#parts.logger.info({ address, port: listener.port }, 'listening for tunnels')
    this.#report()
  }

  #measure({ listeners, captured, tunnelListener, tunnels }: Plane, held: HeldBytes): void {
    const { connectionsOpen, heldBytes, tunnelsOpen, tunnelStreamsOpen } = agentMetrics
    const gauge = this.#counters.gauge.bind(this.#counters)
    gauge(connectionsOpen.name, { listener: 'outbound' }, () => listeners.openConnections)
    gauge(connectionsOpen.name, { listener: 'captured' }, () => captured.openConnections)
    gauge(tunnelsOpen.name, { direction: 'outbound' }, () => tunnels.openTunnels)
    gauge(tunnelsOpen.name, { direction: 'inbound' }, () => tunnelListener.openTunnels)
    gauge(tunnelStreamsOpen.name, { direction: 'outbound' }, () => tunnels.openStreams)
    gauge(tunnelStreamsOpen.name, { direction: 'inbound' }, () => tunnelListener.openStreams)
    gauge(heldBytes.name, {}, () => held.bytes)
  }

  /** The forward proxy's port is the agent's own: without it, it is better not to start. */
  #onFailed({ name, problem }: ListenerState): void {
    if (name !== proxyName) return
    const hint = 'set another in listen.forwardProxy'
    this.#ended.reject(new MeshError(problem, { code: 'listen-failed', hint }))
  }

  #report(): void {
    if (this.#plane === null) return
    const { listeners, tunnelListener } = this.#plane
    const state = { tunnelPort: tunnelListener.port, listeners: listeners.states }
    const reported = JSON.stringify(state)
    if (reported === this.#reported) return
    this.#reported = reported
    this.#link.send({ kind: 'listening', state })
  }
}

function relaySettings(limits: WorkerSettings['limits']): HttpRelaySettings {
  const { headBytes, headFields, ...times } = limits
  return { ...httpRelayDefaults, ...times, head: { maxBytes: headBytes, maxFields: headFields } }
}

function desiredListeners(
  worker: WorkerSettings,
  snapshot: Snapshot,
  outbound: Outbound,
): readonly DesiredListener[] {
  return [
    {
      ...worker.forwardProxy,
      name: proxyName,
      accept: (socket) => outbound.acceptProxy(socket),
      refuse: (socket) => outbound.refuseFor(null, socket),
    },
    ...snapshot.listeners.map(({ service, portName = null, port, file }): DesiredListener => {
      const target = targetName(service, portName)
      return {
        name: `${target} (${file})`,
        address: worker.explicitAddress,
        port,
        accept: (socket) => outbound.acceptFor(target, socket),
        refuse: (socket) => outbound.refuseFor(target, socket),
      }
    }),
  ]
}
