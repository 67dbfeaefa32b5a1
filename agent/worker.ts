/**
 * Composition root of a proxy worker: what it was told last by the control process, and from that
 * when its data plane (plane.ts) is made, opens, drains and ends. It goes on with the last it heard
 * when the control process is away.
 */

import { isDeepStrictEqual } from 'node:util'
import { Credentials } from './identity/credentials.ts'
import { ApplicationDoor } from './outbound/application-door.ts'
import { Plane, proxyName } from './plane.ts'
import type { Clock, Random } from './platform.ts'
import { RelayWatch } from './relay/relay-watch.ts'
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
import { withChanges } from './workers/snapshot-changes.ts'
import { applicationSocketPath, workerSocketPath } from './workers/socket-path.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import { hostId, type SpiffeId } from '#shared/model/spiffe-id.ts'

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

/** How long kept connections of a replaced generation wait for their last request. */
const lastRequestMs = 30_000
/** How long ports stay open that nothing leads to any more, for what is on its way there. */
const lingerMs = 1000

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
    this.#plane?.stop()
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
    const [plane, snapshot] = [this.#plane, this.#snapshot]
    if (plane === null || snapshot === null) return
    if (this.#phase !== 'live' || this.#stopping) return
    plane.open(snapshot)
    if (!this.#takesTunnels) {
      this.#takesTunnels = true
      plane.takeTunnels().then(
        () => this.#report(),
        (error: unknown) => this.#ended.reject(error),
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
      this.#plane = this.#makePlane(worker, this.#trustDomain)
      this.#applyCapture()
    }
    this.#plane.apply(snapshot)
    this.#link.send({ kind: 'applied', sequence: snapshot.sequence })
    this.#open()
  }

  #applyCapture(): void {
    const [view, plane] = [this.#capture, this.#plane]
    if (view === null || plane === null || this.#stopping) return
    // Its ports are closed, or close soon.
    if (this.#phase === 'retiring') return
    plane.capture(view)
    this.#reportCapture()
  }

  #makePlane(worker: WorkerSettings, trustDomain: TrustDomain): Plane {
    const { generation, index } = this.#settings
    const accessLog = this.#accessLog ?? worker.accessLog
    return new Plane(
      {
        ...this.#parts,
        counters: this.#counters,
        credentials: this.#credentials,
        watch: this.#watch,
        door: this.#door,
        self: () => this.#self,
        send: (message) => this.#link.send(message),
        onListeners: () => this.#report(),
        onCaptured: () => this.#reportCapture(),
        onFailed: (listener) => this.#onFailed(listener),
      },
      { worker, accessLog, trustDomain, generation, index },
    )
  }

  /** The forward proxy's port is the agent's own: without it, it is better not to start. */
  #onFailed({ name, problem }: ListenerState): void {
    if (name !== proxyName) return
    const hint = 'set another in listen.forwardProxy'
    this.#ended.reject(new MeshError(problem, { code: 'listen-failed', hint }))
  }

  #report(): void {
    if (this.#plane === null) return
    const state = this.#plane.listening
    const reported = JSON.stringify(state)
    if (reported === this.#reported) return
    this.#reported = reported
    this.#link.send({ kind: 'listening', state })
  }

  #reportCapture(): void {
    if (this.#plane === null || this.#capture === null) return
    const message = this.#plane.capturing
    const reported = JSON.stringify(message)
    if (reported === this.#capturing) return
    this.#capturing = reported
    this.#link.send(message)
  }
}
