/**
 * Owns a host's link with the store: one session after the other with backoff and jitter, the view
 * they keep, and what the host publishes. The store being away removes nothing from the view. No
 * failure of the store ever escapes as an exception or a rejection.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import { Backoff } from '#shared/lifecycle/backoff.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Seen } from './history.ts'
import type { KeyValue } from './key-value.ts'
import { LeftLeases } from './left-leases.ts'
import { OwnKeys } from './own-keys.ts'
import type { Publication } from './own-keys.ts'
import { OwnSockets } from './own-sockets.ts'
import type { ScopeChooser } from './scope.ts'
import type { SessionSettings, SessionStart, SessionStore } from './session.ts'
import { Session } from './session.ts'
import { LiveView } from './view.ts'
import type { StoreChange, StoreView, ViewKeeper } from './view.ts'

/** Whether the store is there. */
export type LinkState =
  /** The view is current and every own key is in the store. `since` is in ms since the epoch. */
  | { readonly kind: 'connected'; readonly since: number; readonly revision: number }
  | { readonly kind: 'away'; readonly since: number; readonly reason: string }

/** Collaborators of a link. */
export interface StoreLinkParts {
  /** Makes the client of one session, with the credential valid now. May reject. */
  readonly connect: () => Promise<SessionStore & Pick<KeyValue, 'close'>>
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** What keeps what the store holds. @default a `LiveView` */
  readonly view?: ViewKeeper
  /** Decides what each session follows. @default everything */
  readonly scope?: ScopeChooser
}

/** Settings of a link. */
export interface StoreLinkSettings extends Omit<SessionSettings, 'patienceMs' | 'spreadMs'> {
  /** Pace of new sessions. @default by the size of the mesh: see `Pace` */
  readonly backoff?: { readonly firstMs: number; readonly lastMs: number }
  /** Longest time a planned stop may take to withdraw. @default 3000 */
  readonly withdrawMs?: number
}

/** Of the first wait after a loss, of every later one, and of the wait for an answer at first. */
const quickMs = { first: 250, last: 2000, patience: 1500 }
/** The same for each entry of the view: a thousand hosts that come back together list them all. */
const perEntryMs = { first: 0.5, last: 1.5, patience: 0.2 }
/** Of that, for a link whose next session most likely lists nothing. */
const resumedShare = 0.1
const longestMs = 20_000
const longestPatienceMs = 5000
/**
 * Of a link that was never whole: it has nothing to lose but time, and a thousand hosts may start at
 * once, when each that gave up early would ask everything again and make it worse.
 */
const coldPatienceMs = { first: 5000, last: 20_000 }

/**
 * How fast a store that is away is tried again. A small mesh is whole again within seconds; a large
 * one spreads the return of its hosts, each of which asks for everything.
 */
class Pace {
  readonly #view: StoreView
  /** How many instances the store had when they were counted last: of some the view may have a part only. */
  instances = 0
  /** Whether a session has ever been whole. */
  hasServed = false
  /** Whether the last one ended because an answer was late: the store is there, and has too much to do. */
  isLate = false
  /** Whether the next one may go on from what the last one saw. */
  canResume = false

  constructor(view: StoreView) {
    this.#view = view
  }

  get firstMs(): number {
    return this.#scale('first')
  }

  get lastMs(): number {
    return this.isLate && !this.hasServed ? longestMs : this.#scale('last')
  }

  /**
   * How long to wait for each answer. Short at first: a server that has just lost its leader or its
   * cable hangs, while the next one would answer. Longer after several failures: it may be slow.
   */
  patienceMs(failures: number): number {
    const doublings = Math.floor(failures / 2)
    if (!this.hasServed) {
      return Math.min(coldPatienceMs.last, coldPatienceMs.first * 2 ** doublings)
    }
    const extra = this.#size * perEntryMs.patience
    return Math.min(longestPatienceMs, quickMs.patience * 2 ** doublings) + extra
  }

  /** Of the mesh, whose hosts come back together however little each of them follows. */
  get #size(): number {
    return Math.max(this.#view.entries.size, this.instances)
  }

  /** Over how long hosts that have to list after all spread that. */
  get spreadMs(): number {
    return this.#size * perEntryMs.last
  }

  #scale(kind: 'first' | 'last'): number {
    const share = this.canResume && !this.isLate ? resumedShare : 1
    return Math.min(longestMs, quickMs[kind] + this.#size * perEntryMs[kind] * share)
  }
}

const notStarted = 'not started'
const noFarewells: ReadonlyMap<string, string> = new Map()
const nothing: ReadonlySet<string> = new Set()

/** See the header. */
export class StoreLink {
  readonly #parts: StoreLinkParts
  readonly #settings: StoreLinkSettings
  readonly #view: ViewKeeper
  readonly #pace: Pace
  readonly #own = new OwnKeys()
  readonly #left: LeftLeases
  /** By the last session; see `Session.lastSeen`. */
  #lastSeen: Seen | null = null
  readonly #sessions = { listed: 0, resumed: 0 }
  readonly #changeListeners = new Set<(change: StoreChange) => void>()
  readonly #stateListeners = new Set<(state: LinkState) => void>()
  readonly #publishListeners = new Set<() => void>()
  #state: LinkState
  #session: Session | null = null
  #running: Promise<void> | null = null
  #stopping = new AbortController()
  #wake = new AbortController()
  /** Whether the session ends because a new one is wanted. */
  #renewing = false

  constructor(parts: StoreLinkParts, settings: StoreLinkSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#left = new LeftLeases(parts)
    this.#view = parts.view ?? new LiveView()
    this.#pace = new Pace(this.#view)
    this.#state = { kind: 'away', since: parts.clock.now(), reason: notStarted }
  }

  /** What is known of the store, kept while it is away. Live: see `StoreView`. */
  get view(): StoreView {
    return this.#view
  }

  get state(): LinkState {
    return this.#state
  }

  /** How many sessions were whole so far, by how they began. */
  get sessions(): Readonly<Record<SessionStart, number>> {
    return this.#sessions
  }

  /** Calls back after every change of the view; answers how to stop that. */
  onChange(listener: (change: StoreChange) => void): () => void {
    this.#changeListeners.add(listener)
    return () => void this.#changeListeners.delete(listener)
  }

  /** Calls back after every change of the state; answers how to stop that. */
  onState(listener: (state: LinkState) => void): () => void {
    this.#stateListeners.add(listener)
    return () => void this.#stateListeners.delete(listener)
  }

  /** Calls back when own keys were written, withdrawn or refused; see `publication`. */
  onPublished(listener: () => void): () => void {
    this.#publishListeners.add(listener)
    return () => void this.#publishListeners.delete(listener)
  }

  /**
   * Says what this host wants in the store: the whole set, now and in every later session. Keys no
   * longer in it are deleted, after their farewell was written where there is one.
   *
   * @param farewells - last values by key, remembered for keys withdrawn later
   */
  publish(desired: ReadonlyMap<string, string>, farewells = noFarewells): void {
    this.#own.want(desired, farewells)
    this.#session?.publish()
  }

  /** Where the publication of an own key stands. */
  publication(key: string): Publication {
    return this.#own.publication(key)
  }

  /** The prefixes that are followed now; none while the store is away. */
  get followed(): ReadonlySet<string> {
    return this.#state.kind === 'connected' ? (this.#session?.followed ?? nothing) : nothing
  }

  /** See `Session.follow`. @throws MeshError of a store's codes */
  async follow(prefix: string, options: { readonly evenEmpty: boolean }): Promise<boolean> {
    return await this.#there().follow(prefix, options)
  }

  /** Follows a prefix no more. */
  unfollow(prefix: string): void {
    this.#session?.unfollow(prefix)
  }

  /** How many keys the store has below a prefix. @throws MeshError of a store's codes */
  async count(prefix: string): Promise<number> {
    return await this.#there().count(prefix)
  }

  #there(): Session {
    if (this.#session !== null && this.#state.kind === 'connected') return this.#session
    const reason = this.#state.kind === 'away' ? this.#state.reason : notStarted
    throw new MeshError(`the store is away: ${reason}`, { code: 'store-unavailable', retry: true })
  }

  /** Begins; a second call does nothing. */
  start(): void {
    if (this.#running !== null) return
    this.#stopping = new AbortController()
    this.#running = this.#run(this.#stopping.signal)
  }

  /** Ends the session and starts a new one at once, as a renewed credential asks for. */
  renew(reason: string): void {
    this.#renewing = this.#session !== null
    this.#session?.end(new Error(reason))
    this.#wake.abort()
  }

  /**
   * Stops. A restart or an upgrade leaves everything to the lease, so that the next process can put
   * the same keys before it lapses; `withdraw` says goodbye for every own key.
   */
  async stop(options: { readonly withdraw: boolean }): Promise<void> {
    const running = this.#running
    if (running === null) return
    const reason = options.withdraw ? await this.#withdraw() : ''
    if (reason !== '') this.#parts.logger.warn({ reason }, 'store: own keys left to the lease')
    this.#stopping.abort()
    this.#session?.end(new Error('stopped'))
    this.#wake.abort()
    await running
    this.#running = null
  }

  /** Answers why own keys may stay; empty where none does. */
  async #withdraw(): Promise<string> {
    if (this.#session === null) return this.#state.kind === 'away' ? this.#state.reason : notStarted
    const wasWhole = this.#pace.hasServed || this.#state.kind === 'connected'
    this.#own.want(new Map(), noFarewells)
    const { withdrawMs = 3000 } = this.#settings
    const enough = new AbortController()
    const why = await Promise.race([
      this.#session
        .withdraw()
        .then((isDone) => (isDone ? '' : 'the session has ended'))
        .catch(messageOf),
      sleep(this.#parts.clock, withdrawMs, enough.signal).then(() => `not in ${withdrawMs} ms`),
    ])
    enough.abort()
    return why === '' && !wasWhole ? 'of those of an earlier process nothing is known yet' : why
  }

  async #run(stopping: AbortSignal): Promise<void> {
    const { clock, random } = this.#parts
    const pace = this.#settings.backoff ?? this.#pace
    const backoff = new Backoff({ random }, pace)
    let failures = 0
    while (!stopping.aborted) {
      this.#wake = new AbortController()
      const startedAt = clock.elapsed()
      const reason = await this.#runSession(stopping, failures)
      const wasReady = this.#state.kind === 'connected'
      this.#become({ kind: 'away', since: clock.now(), reason: reason.message })
      this.#pace.hasServed ||= wasReady
      this.#pace.canResume = this.#lastSeen !== null
      this.#pace.isLate = reason instanceof MeshError && reason.code === 'store-timeout'
      failures = wasReady ? 0 : failures + 1
      if (wasReady && clock.elapsed() - startedAt > pace.lastMs) backoff.reset()
      await sleep(clock, backoff.nextMs(), this.#wake.signal)
    }
  }

  async #runSession(stopping: AbortSignal, failures: number): Promise<Error> {
    const { connect, clock, random, logger } = this.#parts
    const patienceMs = this.#pace.patienceMs(failures)
    let store: Awaited<ReturnType<typeof connect>>
    try {
      store = await connect()
    } catch (error) {
      return error instanceof Error ? error : new Error(messageOf(error))
    }
    const session = new Session(
      {
        store,
        view: this.#view,
        own: this.#own,
        left: this.#left,
        lastSeen: this.#lastSeen,
        ...(this.#parts.scope === undefined ? {} : { scope: this.#counted(this.#parts.scope) }),
        clock,
        random,
        listener: {
          onChange: (change) => this.#tell(this.#changeListeners, change),
          onReady: (began) => {
            this.#sessions[began] += 1
            const { revision } = this.#view
            logger.info({ revision, began }, 'store: away -> connected')
            this.#become({ kind: 'connected', since: clock.now(), revision })
          },
          onPublished: () => this.#tell(this.#publishListeners, undefined),
          onRefused: (key, problem) =>
            logger.error({ key, problem }, 'store: this host may not publish a key'),
        },
      },
      {
        ...this.#settings,
        patienceMs,
        spreadMs: Math.min(this.#settings.leaseTtlMs / 2, this.#pace.spreadMs),
      },
    )
    this.#session = session
    try {
      if (stopping.aborted) session.end(new Error('stopped'))
      return await session.run()
    } finally {
      this.#lastSeen = session.lastSeen
      this.#session = null
      store.close()
    }
  }

  #counted(scope: ScopeChooser): ScopeChooser {
    return {
      choose: (instances) => {
        this.#pace.instances = instances
        return scope.choose(instances)
      },
    }
  }

  #become(next: LinkState): void {
    const before = this.#state
    // Every try that fails tells why; the absence began with the first.
    const isStill = next.kind === 'away' && before.kind === 'away' && before.reason !== notStarted
    const state = isStill ? { ...next, since: before.since } : next
    this.#state = state
    const { logger } = this.#parts
    if (state.kind === 'away') {
      const fields = { reason: state.reason }
      if (this.#stopping.signal.aborted) logger.info(fields, 'store: stopped')
      else if (before.kind !== 'connected') logger.debug(fields, 'store: still away')
      else if (this.#renewing) logger.info(fields, 'store: connected -> away')
      else logger.warn(fields, 'store: connected -> away')
      this.#renewing = false
    }
    this.#tell(this.#stateListeners, state)
  }

  #tell<T>(listeners: ReadonlySet<(value: T) => void>, value: T): void {
    // What a listener goes on to do must not end with the sockets of this session.
    OwnSockets.leave(() => {
      for (const listener of listeners) listener(value)
    })
  }
}
