/**
 * Composition of the data plane: both sides of every journey, and the ports they begin at, wired
 * together. There is one from the moment a worker knows its settings, its mesh and a view; when it
 * opens and closes is the worker's business. A few lines longer than most: each part is made here once.
 */

import type { Socket } from 'node:net'
import { InstanceLoads } from './balance/instance-loads.ts'
import { HeldBytes } from './http2/held-bytes.ts'
import type { Credentials } from './identity/credentials.ts'
import { Inbound } from './inbound/inbound.ts'
import { LocalInstances } from './inbound/local-instances.ts'
import { callerPort } from './interception/caller-ports.ts'
import type { ApplicationDoor } from './outbound/application-door.ts'
import { CapturedCallers } from './outbound/captured-callers.ts'
import { FarHosts } from './outbound/far-hosts.ts'
import { Listeners, type DesiredListener } from './outbound/listeners.ts'
import { Lookups } from './outbound/lookups.ts'
import { Outbound } from './outbound/outbound.ts'
import { OutboundUpstream } from './outbound/outbound-upstream.ts'
import { RefusedCallers } from './outbound/refused-callers.ts'
import { ServiceTable } from './outbound/service-table.ts'
import type { Clock, Random } from './platform.ts'
import { ExternalDialler } from './relay/dial-external.ts'
import { LocalDialler } from './relay/dial-local.ts'
import { httpRelayDefaults, type HttpRelaySettings } from './relay/http-relay.ts'
import type { RelayWatch } from './relay/relay-watch.ts'
import { Recorder } from './telemetry/recorder.ts'
import type { TrafficCounters } from './telemetry/traffic-counters.ts'
import { askHost } from './tunnel/ask-host.ts'
import { ChannelPool, idleMsFor } from './tunnel/channel-pool.ts'
import { TunnelListener } from './tunnel/tunnel-listener.ts'
import { Tunnels } from './tunnel/tunnels.ts'
import type { CaptureView, FromWorker, ListenerState, WorkerSettings } from './workers/messages.ts'
import { shareOf } from './workers/share.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import { externalId, serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { agentTarget, targetName } from '#shared/model/target.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'

/** What a plane leans on. */
export interface PlaneParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Takes access lines. */
  readonly access: Logger
  readonly counters: TrafficCounters
  readonly credentials: Credentials
  readonly watch: RelayWatch
  readonly door: ApplicationDoor
  /** This host, the caller of whatever names no service; null while no view is here. */
  readonly self: () => SpiffeId | null
  /** Tells the control process; false while it is away. */
  readonly send: (message: FromWorker) => boolean
  /** Told when a port that people asked for opened, closed, or could not be opened. */
  readonly onListeners: () => void
  /** The same of a port of captured callers. */
  readonly onCaptured: () => void
  readonly onFailed: (listener: ListenerState) => void
}

/** Settings of a plane. */
export interface PlaneSettings {
  readonly worker: WorkerSettings
  readonly accessLog: WorkerSettings['accessLog']
  readonly trustDomain: TrustDomain
  readonly generation: number
  readonly index: number
}

/** Name of the listener that the agent cannot do without. */
export const proxyName = 'forward proxy'

/** Most bytes a worker holds for slow readers, all streams together. */
const heldLimitBytes = 268_435_456
/** How often the control process hears what is called from here. */
const usedEveryMs = 10_000

/** See the header. */
export class Plane {
  readonly listeners: Listeners
  /** Ports of captured callers, apart: people are told of the ones they asked for. */
  readonly captured: Listeners
  readonly tunnelListener: TunnelListener
  readonly loads: InstanceLoads
  readonly lookups: Lookups
  readonly recorder: Recorder
  readonly #parts: PlaneParts
  readonly #settings: PlaneSettings
  readonly #held = new HeldBytes({ limitBytes: heldLimitBytes })
  readonly #policies = new PolicyTable()
  readonly #hosts: FarHosts
  readonly #tunnels: Tunnels
  readonly #services: ServiceTable
  readonly #instances: LocalInstances
  readonly #callers: CapturedCallers
  readonly #outbound: Outbound
  readonly #telling: Timer

  constructor(parts: PlaneParts, settings: PlaneSettings) {
    const { clock, logger, access, counters, credentials } = parts
    const { worker, trustDomain } = settings
    // Draws of the data path need speed, not secrecy.
    const random: Random = {
      fraction: () => Math.random(),
      bytes: (count) => parts.random.bytes(count),
    }
    const held = this.#held
    this.#parts = parts
    this.#settings = settings
    this.recorder = new Recorder(
      { counters, log: { write: (outcome) => access.info(outcome, 'access') } },
      { accessLog: settings.accessLog },
    )
    this.#hosts = new FarHosts({
      clock,
      random,
      logger,
      counters,
      ask: (target, done) => askHost({ credentials, clock }, target, done),
      onBack: (host) => this.#tunnels.answersAgain(host),
    })
    this.#tunnels = new Tunnels(
      {
        credentials,
        clock,
        random,
        logger,
        held,
        onHandshake: this.#handshakes('outbound'),
        onHost: this.#hosts,
      },
      // A lost host is out of rotation within two seconds: three silent rounds and the one before.
      { pingEveryMs: 400, missingRounds: 2, deadRounds: 6 },
    )
    this.loads = new InstanceLoads({ shareOf: (limit) => this.#shareOf(limit) })
    const local = new LocalDialler(
      { clock, random, held },
      { source: worker.inboundSource, ports: worker.sourcePorts ?? null, timeoutMs: 1000 },
    )
    this.#services = this.#makeServices(local)
    this.lookups = new Lookups({
      clock,
      ask: (service) => parts.send({ kind: 'wanted', service }),
    })
    this.#telling = clock.every(usedEveryMs, () => {
      const used = this.#services.takeUsed()
      if (used.length > 0) parts.send({ kind: 'used', services: used })
    })
    this.#instances = new LocalInstances({
      local,
      policies: this.#policies,
      makePool: (keepAliveMs) => this.#poolOf(keepAliveMs),
      loads: this.loads,
    })
    const relay = relaySettings(worker.limits)
    const journey = { clock, random, counters, watch: parts.watch, outcomes: this.recorder, held }
    const inbound = new Inbound({ ...journey, instances: this.#instances }, { relay })
    this.tunnelListener = new TunnelListener(
      {
        credentials,
        clock,
        logger,
        held,
        onHandshake: this.#handshakes('inbound'),
        onStream: (call) => inbound.accept(call),
      },
      { ...worker.tunnel, trustDomain, reusePort: true },
    )
    this.#callers = new CapturedCallers({ portOf: (index) => this.#callerPort(index) })
    this.#outbound = new Outbound(
      {
        ...journey,
        services: this.#services,
        lookups: this.lookups,
        policies: this.#policies,
        callerOf: (socket) => this.#callers.callerOf(socket) ?? parts.self(),
        refused: new RefusedCallers({ clock, logger, outcomes: this.recorder, counters }, worker),
      },
      { relay },
    )
    const shared = {
      // With other workers, and with the generation that takes over.
      reusePort: true,
      maxConnections: this.#shareOf(worker.maxConnections),
    }
    const { onListeners, onFailed, onCaptured } = parts
    const ports = { clock, random, logger }
    this.listeners = new Listeners(
      {
        ...ports,
        onChange: onListeners,
        onFailed,
        openBeside: () => this.captured.openConnections,
      },
      shared,
    )
    this.captured = new Listeners(
      {
        ...ports,
        onChange: onCaptured,
        onFailed: onCaptured,
        openBeside: () => this.listeners.openConnections,
      },
      shared,
    )
    this.#measure()
  }

  /** Which ports are open, for the control process. */
  get listening(): Extract<FromWorker, { readonly kind: 'listening' }>['state'] {
    return { tunnelPort: this.tunnelListener.port, listeners: this.listeners.states }
  }

  /** Which captured callers have an open port, for the control process. */
  get capturing(): Extract<FromWorker, { readonly kind: 'capturing' }> {
    const { callers, sequence } = this.#callers.view
    const { states } = this.captured
    const shut = new Set(states.flatMap((one) => (one.problem === '' ? [] : [one.port])))
    const open = callers
      .map(({ index }) => index)
      .filter((index) => !shut.has(this.#callerPort(index)))
    return { kind: 'capturing', sequence, open }
  }

  /** Takes over the newest view; what is open is judged again where policy changed. */
  apply(snapshot: Snapshot): void {
    const isPolicyChanged = this.#policies.apply(snapshot)
    this.loads.apply(snapshot.local)
    this.#hosts.apply(snapshot.hosts)
    this.#services.apply(snapshot)
    this.#instances.apply(snapshot)
    this.lookups.apply(snapshot)
    this.#outbound.lookAgain()
    if (isPolicyChanged) this.#parts.watch.reconsider()
  }

  /** Opens the forward proxy and the ports that manifests ask for, and closes others. */
  open(snapshot: Snapshot): void {
    const { forwardProxy, explicitAddress } = this.#settings.worker
    const outbound = this.#outbound
    this.listeners.apply([
      {
        ...forwardProxy,
        name: proxyName,
        accept: (socket) => outbound.acceptProxy(socket),
        refuse: (socket) => outbound.refuseFor(null, socket),
      },
      ...snapshot.listeners.map(({ service, portName = null, port, file }): DesiredListener => {
        const target = targetName(service, portName)
        return {
          name: `${target} (${file})`,
          address: explicitAddress,
          port,
          accept: (socket) => outbound.acceptFor(target, socket),
          refuse: (socket) => outbound.refuseFor(target, socket),
        }
      }),
    ])
  }

  /** Begins to take tunnels of other hosts. @throws MeshError when the port is taken */
  async takeTunnels(): Promise<void> {
    const { address } = this.#settings.worker.tunnel
    await this.tunnelListener.listen()
    this.#parts.logger.info({ address, port: this.tunnelListener.port }, 'listening for tunnels')
  }

  /** Opens a port for each caller; a connection to one that was not led there by us is not taken. */
  capture(view: CaptureView): void {
    const callers = this.#callers
    const outbound = this.#outbound
    callers.apply(view, this.#settings.trustDomain)
    const accept = (socket: Socket): void => {
      const target = callers.targetOf(socket)
      if (target === null) socket.resetAndDestroy()
      else if (target === agentTarget) this.#parts.door.accept(socket, callers.serviceOf(socket))
      else outbound.acceptFor(target, socket)
    }
    this.captured.apply(
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
  }

  /** Ends at once what was not drained before. */
  stop(): void {
    this.#telling.stop()
    this.lookups.stop()
    this.tunnelListener.stop()
    this.#hosts.stop()
    this.#tunnels.stop()
  }

  #makeServices(local: LocalDialler): ServiceTable {
    const { clock, counters } = this.#parts
    const { trustDomain } = this.#settings
    const tunnels = this.#tunnels
    const external = new ExternalDialler({ clock, held: this.#held })
    return new ServiceTable({
      clock,
      loads: this.loads,
      hosts: this.#hosts,
      onEjected: ({ service, place }) => {
        const idOf = place.kind === 'external' ? externalId : serviceId
        const destination = idOf(trustDomain, service)
        counters.tally(agentMetrics.ejections.name, { destination })
      },
      makeUpstream: (endpoint, caller) => {
        const { place } = endpoint
        const pool =
          place.kind === 'local'
            ? this.#poolOf(place.instance.keepAliveMs)
            : new ChannelPool({ clock })
        return new OutboundUpstream(
          { tunnels, local, external, pool },
          { endpoint, caller, trustDomain },
        )
      },
    })
  }

  /** Connections to an instance of this host, which may close idle ones. */
  #poolOf(keepAliveMs: number | undefined): ChannelPool {
    return new ChannelPool({ clock: this.#parts.clock }, { idleMs: idleMsFor(keepAliveMs) })
  }

  #callerPort(index: number): number {
    const { worker, generation } = this.#settings
    return callerPort(worker.callerPorts, generation, index)
  }

  #shareOf(limit: number): number {
    const { index, worker } = this.#settings
    return shareOf(limit, index, worker.workers)
  }

  #handshakes(direction: string): (result: string, root?: string | null) => void {
    const { handshakes, handshakesByRoot } = agentMetrics
    const { counters } = this.#parts
    return (result, root = null) => {
      counters.tally(handshakes.name, { direction, result })
      if (root !== null) counters.tally(handshakesByRoot.name, { direction, root })
    }
  }

  #measure(): void {
    const { connectionsOpen, heldBytes, tunnelsOpen, tunnelStreamsOpen } = agentMetrics
    const { counters } = this.#parts
    const [tunnels, listener] = [this.#tunnels, this.tunnelListener]
    const gauge = counters.gauge.bind(counters)
    gauge(connectionsOpen.name, { listener: 'outbound' }, () => this.listeners.openConnections)
    gauge(connectionsOpen.name, { listener: 'captured' }, () => this.captured.openConnections)
    gauge(tunnelsOpen.name, { direction: 'outbound' }, () => tunnels.openTunnels)
    gauge(tunnelsOpen.name, { direction: 'inbound' }, () => listener.openTunnels)
    gauge(tunnelStreamsOpen.name, { direction: 'outbound' }, () => tunnels.openStreams)
    gauge(tunnelStreamsOpen.name, { direction: 'inbound' }, () => listener.openStreams)
    gauge(heldBytes.name, {}, () => this.#held.bytes)
  }
}

function relaySettings(limits: WorkerSettings['limits']): HttpRelaySettings {
  const { headBytes, headFields, ...times } = limits
  return { ...httpRelayDefaults, ...times, head: { maxBytes: headBytes, maxFields: headFields } }
}
