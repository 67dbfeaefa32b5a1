/**
 * Owns the control process's end of the worker protocol: a unix socket that only this user may
 * open, the latest value of everything workers must know, and the counters they report. Workers
 * come and go by themselves; the hub starts and ends none.
 */

import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import type { Clock } from '#agent/platform.ts'
import type { CallNews } from './call-news.ts'
import { carriedBy, type Collected } from './carried.ts'
import { ComingBack } from './coming-back.ts'
import {
  ConnectedWorker,
  valueKinds,
  type ValueKind,
  type WorkerCounters,
  type WorkerState,
} from './connected-worker.ts'
import { CounterLedger } from './counter-ledger.ts'
import { phasesOf } from './generation-rules.ts'
import {
  protocol,
  type CaptureView,
  type CredentialMessage,
  type FromWorker,
  type LiveWorkerSettings,
  type WorkerPhase,
  type WorkerSettings,
} from './messages.ts'
import { makePrivate } from './private-directory.ts'
import { WorkerValues, type HandedTrust } from './worker-values.ts'

/** Settings of the hub. */
export interface WorkerHubSettings {
  readonly socketPath: string
  readonly worker: WorkerSettings
  readonly live: LiveWorkerSettings
  /** How long a replaced generation may keep its connections. */
  readonly retireMs: number
  /** Longest wait for a worker's counters. @default 1000 */
  readonly collectMs?: number
}

/** More connections than workers could ever make. */
const maxConnections = 64

/** Feeds workers and hears them. */
export class WorkerHub {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #server: Server
  readonly #workers = new Set<ConnectedWorker>()
  readonly #ledger = new CounterLedger()
  readonly #listeners = new Set<() => void>()
  readonly #values = new WorkerValues()
  /** Crashes by place, `<generation> <index>`. */
  readonly #crashes = new Map<string, number>()
  readonly #leadsTo: (generation: number) => boolean
  readonly #calls: CallNews | null
  #settings: WorkerHubSettings
  /** Of the capture view handed out last; 0: there is none. */
  #captureSequence = 0
  readonly #comingBack: ComingBack
  #provisional = false
  #stopping = false
  #requests = 0

  constructor(
    parts: {
      readonly clock: Clock
      readonly logger: Logger
      /** Whether captured connections are led to a generation, if anywhere. @default they are */
      readonly leadsTo?: (generation: number) => boolean
      /** @default nobody is told, and nothing is found */
      readonly calls?: CallNews
    },
    settings: WorkerHubSettings,
  ) {
    this.#clock = parts.clock
    this.#comingBack = new ComingBack(parts)
    this.#logger = parts.logger
    this.#leadsTo = parts.leadsTo ?? (() => true)
    this.#calls = parts.calls ?? null
    this.#settings = settings
    this.#server = createServer((socket) => this.#accept(socket))
    this.#server.maxConnections = maxConnections
  }

  /** Opens the socket; a leftover of a process that died is replaced. */
  async start(): Promise<void> {
    const { socketPath } = this.#settings
    makePrivate(socketPath)
    rmSync(socketPath, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (cause) =>
        reject(
          new MeshError(`cannot open the worker socket ${socketPath}: ${cause.message}`, {
            code: 'worker-socket',
            hint: 'check that the run directory exists and belongs to the agent’s user',
            cause,
          }),
        ),
      )
      this.#server.listen(socketPath, resolve)
    })
    this.#server.on('error', (error) => this.#logger.error({ error }, 'worker socket'))
    chmodSync(socketPath, 0o600)
    this.#comingBack.start(() => this.refresh())
  }

  /** Closes the socket and every connection; workers go on serving with what they have. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#comingBack.stop()
    for (const worker of this.#workers) worker.line.close('the control process stops')
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  /** Hands every worker what captured connections mean, now and whenever one connects. */
  setCapture(capture: CaptureView): void {
    this.#captureSequence = capture.sequence
    if (this.#values.setCapture(capture)) this.#handAll('capture')
  }

  /** Hands every worker what is trusted, now and whenever one connects. */
  setTrust(trust: HandedTrust): void {
    const { bundlePem, trustDomain, bans } = trust
    const epochs = { bundle: trust.epochs.bundle, bans: trust.epochs.bans }
    if (this.#values.setTrust({ bundlePem, trustDomain, bans, epochs })) this.#handAll('trust')
  }

  /** Hands every worker the whole set of credentials. */
  setCredentials(credentials: readonly CredentialMessage[]): void {
    if (this.#values.setCredentials(credentials)) this.#handAll('credentials')
  }

  /**
   * Hands every worker the snapshot. A `provisional` one, made before this process knows its own
   * host well, is only for workers that have none: what the others have is better.
   */
  setSnapshot(snapshot: Snapshot, provisional = false): void {
    const isNews = this.#values.setSnapshot(snapshot) || this.#provisional !== provisional
    this.#provisional = provisional
    if (isNews) this.#handAll('snapshot')
  }

  /** Takes over other settings: what counts at once goes to all, the rest to workers to come. */
  configure(settings: Pick<WorkerHubSettings, 'worker' | 'live' | 'retireMs'>): void {
    this.#settings = { ...this.#settings, ...settings }
    for (const worker of this.#workers) {
      if (worker.state !== null && worker.state.protocol >= 2) this.#tellSettings(worker)
    }
    this.refresh()
  }

  /** Looks again at which generation is to do what. */
  refresh(): void {
    if (this.#stopping) return
    const workers = [...this.#workers].flatMap((worker) =>
      worker.state === null
        ? []
        : { ...worker.state, isReady: this.#isReady(worker.state), worker },
    )
    const phases = phasesOf(workers, {
      wanted: this.#settings.worker.workers,
      leadsTo: this.#leadsTo,
      allAreBack: this.#comingBack.isOver,
    })
    for (const [{ worker, phase: before }, phase] of phases) {
      if (phase !== before) this.#tellPhase(worker, phase)
    }
  }

  /** Workers a generation has. */
  get wanted(): number {
    return this.#settings.worker.workers
  }

  /** Longest time a replaced generation keeps its connections. */
  get retireMs(): number {
    return this.#settings.retireMs
  }

  /** The workers connected now. */
  get workers(): readonly WorkerState[] {
    return [...this.#workers].flatMap((worker) => (worker.state === null ? [] : [worker.state]))
  }

  /**
   * Resolves once workers that serve since before this process have had time to come back: within
   * seconds of its start, or when it stops.
   */
  get back(): Promise<void> {
    return this.#comingBack.over
  }

  /** Where the newest generation takes tunnels; 0 while none does. */
  get tunnelPort(): number {
    const taking = this.workers.filter(({ listening, phase }) => {
      return listening.tunnelPort !== 0 && phase !== 'retiring'
    })
    return taking.toSorted((a, b) => b.generation - a.generation)[0]?.listening.tunnelPort ?? 0
  }

  /** Workers that ended without a goodbye since this process began. */
  get crashes(): number {
    return this.#crashes.values().reduce((sum, count) => sum + count, 0)
  }

  /** Told whenever a worker came, went, or reported something new. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /**
   * Asks every worker for its counters and adds what dead ones had counted; `carried` is what is under
   * way to each service of this host, null where not all of them tell.
   */
  async collect(): Promise<Collected> {
    const workers = [...this.#workers].filter(({ state }) => state !== null)
    const answers = await Promise.all(workers.map((worker) => this.#ask(worker)))
    return { ...this.#ledger.total(), carried: carriedBy(answers) }
  }

  #ask(worker: ConnectedWorker): Promise<WorkerCounters | null> {
    // One that does not even read is not asked: its last answer stands.
    if (worker.line.backlog > 0) return Promise.resolve(null)
    const request = ++this.#requests
    return new Promise((resolve) => {
      const done = (answer: WorkerCounters | null): void => {
        timer.stop()
        worker.waiting.delete(request)
        resolve(answer)
      }
      const timer = this.#clock.after(this.#settings.collectMs ?? 1000, () => done(null))
      worker.waiting.set(request, done)
      worker.line.send({ kind: 'collect', request })
    })
  }

  /** Hands out a value; who knows it already hears nothing. */
  #handAll(kind: ValueKind): void {
    for (const worker of this.#workers) {
      if (worker.state !== null) this.#hand(worker, kind, worker.state)
    }
  }

  #hand(worker: ConnectedWorker, kind: ValueKind, { protocol: version }: WorkerState): void {
    if (kind === 'snapshot' && this.#provisional && worker.serving) return
    const value = this.#values.of(kind)
    worker.outbox.put(kind, () => value.lineFor(worker, version))
  }

  #accept(socket: Socket): void {
    const worker = new ConnectedWorker(socket)
    this.#workers.add(worker)
    worker.line.handle(
      (message) => this.#hear(worker, message),
      (problem) => {
        this.#workers.delete(worker)
        this.#ledger.retire(worker)
        for (const done of worker.waiting.values()) done(null)
        if (worker.state !== null) this.#gone(worker, worker.state, problem)
        this.#changed()
      },
    )
  }

  #gone(worker: ConnectedWorker, { generation, index, pid }: WorkerState, problem: string): void {
    if (worker.leaving || this.#stopping) {
      this.#logger.info({ generation, index, pid }, 'worker: connected -> ended')
      return
    }
    const place = placeOf(generation, index)
    const crashes = (this.#crashes.get(place) ?? 0) + 1
    this.#crashes.set(place, crashes)
    this.#logger.warn({ generation, index, pid, crashes, problem }, 'worker: connected -> crashed')
  }

  #hear(worker: ConnectedWorker, message: FromWorker): void {
    switch (message.kind) {
      case 'hello':
        this.#welcome(worker, message)
        break
      case 'listening':
        if (worker.state !== null) worker.state = { ...worker.state, listening: message.state }
        this.#changed()
        break
      case 'applied':
        if (worker.state !== null) worker.state = { ...worker.state, applied: message.sequence }
        this.#changed()
        break
      case 'capturing':
        if (worker.state !== null) {
          const { sequence, open } = message
          worker.state = { ...worker.state, capturing: { sequence, open } }
        }
        this.#changed()
        break
      case 'trusted':
        if (worker.state !== null) worker.state = { ...worker.state, trust: message.epochs }
        this.#changed()
        break
      case 'counters':
        this.#ledger.update(worker, message.counters)
        if (worker.state !== null) worker.state = { ...worker.state, open: message.open ?? 0 }
        worker.waiting.get(message.request)?.(message)
        break
      case 'wanted':
        void this.#lookUp(worker, message.service)
        break
      case 'used':
        this.#calls?.used(message.services)
        break
      case 'leaving':
        worker.leaving = true
        this.#ledger.update(worker, message.counters)
        break
    }
  }

  async #lookUp(worker: ConnectedWorker, service: ServiceName): Promise<void> {
    const why = this.#calls === null ? 'unknown' : await this.#calls.lookUp(service)
    if (why !== null) worker.line.send({ kind: 'not-found', service, why })
  }

  #welcome(worker: ConnectedWorker, hello: FromWorker & { kind: 'hello' }): void {
    const version = Math.min(hello.newest, protocol.newest)
    const { generation, index, pid, startedAtMs = 0, retiringSinceMs = 0 } = hello
    if (version < hello.oldest || version < protocol.oldest) {
      this.#logger.error(
        { generation, index, pid, theirs: [hello.oldest, hello.newest], ours: protocol },
        'worker refused: no common protocol version; restart that worker with this version',
      )
      worker.line.close('no common protocol version')
      return
    }
    worker.serving = hello.serving
    worker.state = {
      generation,
      index,
      pid,
      protocol: version,
      version: hello.version ?? '',
      phase: hello.phase ?? null,
      startedAtMs,
      retiringSinceMs,
      open: 0,
      applied: 0,
      trust: { bundle: 0, bans: 0 },
      listening: { tunnelPort: 0, listeners: [] },
      crashes: this.#crashes.get(placeOf(generation, index)) ?? 0,
      capturing: null,
    }
    worker.line.send({ kind: 'welcome', protocol: version, settings: this.#settings.worker })
    if (version >= 2) this.#tellSettings(worker)
    for (const kind of valueKinds) this.#hand(worker, kind, worker.state)
    this.#logger.info({ generation, index, pid, protocol: version }, 'worker connected')
    this.#changed()
  }

  #tellSettings(worker: ConnectedWorker): void {
    worker.line.send({ kind: 'settings', settings: this.#settings.live })
  }

  #tellPhase(worker: ConnectedWorker, phase: WorkerPhase): void {
    const { state } = worker
    if (state === null) return
    const { generation, index, pid, protocol: version } = state
    const { retireMs: withinMs } = this.#settings
    const retiringSinceMs = phase === 'retiring' ? this.#clock.now() : 0
    worker.state = { ...state, phase, retiringSinceMs }
    if (version >= 2) worker.line.send({ kind: 'phase', phase, withinMs })
    // Such a worker serves from the moment it has a view.
    else if (phase === 'retiring') worker.line.send({ kind: 'drain', withinMs })
    this.#logger.info({ generation, index, pid }, `worker: ${state.phase ?? 'new'} -> ${phase}`)
  }

  /** Whether a worker acts on the newest of everything. */
  #isReady({ applied, capturing }: WorkerState): boolean {
    const captures = this.#captureSequence === 0 || capturing?.sequence === this.#captureSequence
    return applied !== 0 && captures
  }

  #changed(): void {
    this.refresh()
    for (const listener of this.#listeners) listener()
  }
}

function placeOf(generation: number, index: number): string {
  return `${generation} ${index}`
}
