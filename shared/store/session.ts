/**
 * Owns one session with the store: list, watch from there, grant a lease, put everything this host
 * owns, keep it alive. Any trouble ends it, and it never heals itself: `link.ts` starts the next.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { CallOptions, KeyValue, LeaseId, Operation, StoreEvent, Watch } from './key-value.ts'
import { instancesPrefix } from './keys.ts'
import type { LeftLeases } from './left-leases.ts'
import type { OwnKeys, Step } from './own-keys.ts'
import { prefixesOf, wholeMesh, type Scope, type ScopeChooser } from './scope.ts'
import type { StoreChange, ViewKeeper } from './view.ts'

/** Who is told how a session goes. */
export interface SessionListener {
  /** The view changed. */
  onChange(change: StoreChange): void
  /** Listed, watching, and every own key is in the store under this session's lease. */
  onReady(): void
  /** An own key was put, deleted or refused. */
  onPublished(): void
  /** The store does not let this host write a key; told once per problem. */
  onRefused(key: string, problem: string): void
}

/** What a session asks of a store. */
export type SessionStore = Pick<
  KeyValue,
  'list' | 'listAll' | 'count' | 'watch' | 'grantLease' | 'keepAlive' | 'transact' | 'revokeLease'
>

/** Collaborators of a session. */
export interface SessionParts {
  readonly store: SessionStore
  readonly view: ViewKeeper
  readonly own: OwnKeys
  /** Those of the sessions before this one. */
  readonly left: LeftLeases
  readonly clock: Clock
  readonly random: Random
  readonly listener: SessionListener
  /** Decides what is followed. @default everything below the prefix is */
  readonly scope?: ScopeChooser
}

/** A prefix that is watched. */
interface Followed {
  watch: Watch | null
  /** Everything up to there is known. */
  revision: number
  /** When it was told anything last, on the clock of elapsed time. */
  toldAt: number
}

/** Settings of a session. */
export interface SessionSettings {
  readonly prefix: string
  /** How long own keys outlive this host's silence. */
  readonly leaseTtlMs: number
  /** Longest wait for each answer but that to a renewal. @default the client's own */
  readonly patienceMs?: number
}

/** Below etcd's default limit of 128 operations in a transaction. */
const stepsAtOnce = 100
/** So many times the lease's, a watch may tell nothing while others do: it may be far behind. */
const behindLeases = 4

/** See the header. */
export class Session {
  readonly #parts: SessionParts
  readonly #settings: SessionSettings
  readonly #ending = new AbortController()
  #reason: Error | null = null
  readonly #followed = new Map<string, Followed>()
  /** Whether any watch has told anything since all were asked for a sign of life: they share a stream. */
  #isHeard = true
  #lease: LeaseId | null = null
  #isGivenBack = false
  #writing: Promise<void> | null = null

  constructor(parts: SessionParts, settings: SessionSettings) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Runs until something ends it and answers what that was; never rejects. */
  async run(): Promise<Error> {
    const { store, own, view, listener, left } = this.#parts
    const { signal } = this.#ending
    const { leaseTtlMs, prefix } = this.#settings
    const options = this.#options()
    try {
      const scope = await this.#scope()
      const prefixes = prefixesOf(scope, prefix)
      const listing = await store.listAll(prefixes, options)
      signal.throwIfAborted()
      listener.onChange(view.replace(listing, scope))
      for (const one of prefixes) this.#watch(one, listing.revision)
      const granted = await store.grantLease(leaseTtlMs, options)
      this.#lease = granted.lease
      own.restart()
      await this.#write()
      if (!signal.aborted) listener.onReady()
      await this.#keepAlive(granted.lease)
    } catch (error) {
      this.end(error)
    } finally {
      for (const { watch } of this.#followed.values()) watch?.cancel()
      if (this.#lease !== null && !this.#isGivenBack) left.add(this.#lease, { ttlMs: leaseTtlMs })
    }
    return this.#reason ?? new Error('the session ended')
  }

  /** The prefixes that are followed. */
  get followed(): ReadonlySet<string> {
    return new Set(this.#followed.keys())
  }

  /**
   * Follows one more prefix and resolves, once the view has it, whether there is anything below it;
   * an empty one is followed only with `evenEmpty`. Rejects with what the store says.
   */
  async follow(prefix: string, options: { readonly evenEmpty: boolean }): Promise<boolean> {
    const { store, view, listener } = this.#parts
    const listing = await store.list(prefix, this.#options())
    this.#ending.signal.throwIfAborted()
    const isThere = listing.entries.length > 0
    if (this.#followed.has(prefix) || !(isThere || options.evenEmpty)) return isThere
    listener.onChange(view.extend(listing, prefix))
    this.#watch(prefix, listing.revision)
    return isThere
  }

  /** How many keys there are below a prefix. */
  async count(prefix: string): Promise<number> {
    return await this.#parts.store.count(prefix, this.#options())
  }

  /** Follows a prefix no more; the view forgets what is below it. */
  unfollow(prefix: string): void {
    const { view, listener } = this.#parts
    const followed = this.#followed.get(prefix)
    if (followed === undefined) return
    this.#followed.delete(prefix)
    followed.watch?.cancel()
    listener.onChange(view.forget(prefix))
  }

  /** Ends the session; the first reason counts. */
  end(reason: unknown): void {
    this.#reason ??= reason instanceof Error ? reason : new Error(messageOf(reason))
    this.#ending.abort(this.#reason)
  }

  /** What this host wants in the store changed. */
  publish(): void {
    if (this.#lease === null || this.#isGivenBack || this.#ending.signal.aborted) return
    void this.#write()
  }

  /** Withdraws every own key, which nobody wants any more, and gives the lease back. */
  async withdraw(): Promise<void> {
    const lease = this.#lease
    if (lease === null) return
    await this.#write()
    if (this.#ending.signal.aborted) return
    await this.#parts.store.revokeLease(lease)
    this.#isGivenBack = true
  }

  async #scope(): Promise<Scope> {
    const { scope, store } = this.#parts
    if (scope === undefined) return wholeMesh
    return scope.choose(await store.count(instancesPrefix, this.#options()))
  }

  #watch(prefix: string, revision: number): void {
    const { clock, store } = this.#parts
    const followed: Followed = { watch: null, revision, toldAt: clock.elapsed() }
    this.#followed.set(prefix, followed)
    followed.watch = store.watch(prefix, revision + 1, {
      onEvents: (events) => this.#onEvents(followed, events),
      onProgress: () => this.#hear(followed),
      onEnd: (error) => this.end(error),
    })
  }

  #hear(followed: Followed): void {
    this.#isHeard = true
    followed.toldAt = this.#parts.clock.elapsed()
  }

  /** Renews the lease, and asks each watch for a sign of life each time. */
  async #keepAlive(lease: LeaseId): Promise<void> {
    const { clock, random, own } = this.#parts
    const { leaseTtlMs } = this.#settings
    const { signal } = this.#ending
    let retryAt = clock.elapsed() + leaseTtlMs
    for (;;) {
      await Promise.all([
        this.#giveBackLeft(),
        sleep(clock, (leaseTtlMs / 3) * (0.8 + 0.2 * random.fraction()), signal),
      ])
      signal.throwIfAborted()
      this.#demandSignOfLife()
      this.#isHeard = false
      for (const { watch } of this.#followed.values()) watch?.requestProgress()
      await this.#renew(lease)
      if (clock.elapsed() < retryAt) continue
      retryAt = clock.elapsed() + leaseTtlMs
      own.retryRefused()
      await this.#write()
    }
  }

  /** Whose going no watch would tell of is put again. */
  async #giveBackLeft(): Promise<void> {
    const { own, left, store } = this.#parts
    const options = { signal: this.#ending.signal, timeoutMs: this.#settings.leaseTtlMs / 5 }
    if (!(await left.giveBack(store, options))) return
    const isFollowed = (key: string): boolean =>
      this.#followed.keys().some((prefix) => key.startsWith(prefix))
    if (own.doubt((key) => !isFollowed(key))) this.publish()
  }

  /** A server that is late and yet tells of changes is busy, not gone: it is asked once more. */
  async #renew(lease: LeaseId): Promise<void> {
    const { store } = this.#parts
    const options = { signal: this.#ending.signal, timeoutMs: this.#settings.leaseTtlMs / 5 }
    try {
      await store.keepAlive(lease, options)
    } catch (error) {
      const isLate = error instanceof MeshError && error.code === 'store-timeout'
      if (!isLate || !this.#isHeard) throw error
      await store.keepAlive(lease, options)
    }
  }

  /** @throws MeshError when the watches say nothing, or one of them has not for long */
  #demandSignOfLife(): void {
    const since = this.#parts.clock.elapsed() - behindLeases * this.#settings.leaseTtlMs
    const silent = this.#followed.entries().find(([, { toldAt }]) => toldAt < since)?.[0]
    if (this.#isHeard && silent === undefined) return
    const words = this.#isHeard
      ? `the watch of ${silent} stays behind`
      : 'the watch has gone silent'
    throw new MeshError(`store: ${words}`, { code: 'store-timeout', retry: true })
  }

  #onEvents(followed: Followed, events: readonly StoreEvent[]): void {
    this.#hear(followed)
    if (this.#ending.signal.aborted) return
    const { view, own, listener } = this.#parts
    let again = false
    let { revision } = followed
    for (const event of events) {
      const at = event.kind === 'delete' ? event.modRevision : event.entry.modRevision
      revision = Math.max(revision, at)
      if (event.kind === 'delete' && at > followed.revision) {
        again = own.lost(event.key) || again
      }
    }
    const change = view.apply(events, followed.revision)
    followed.revision = revision
    if (change !== null) listener.onChange(change)
    if (again) this.publish()
  }

  /** Brings the store to what is wanted. One runs at a time; it also takes what is wanted later. */
  #write(): Promise<void> {
    this.#writing ??= Promise.resolve().then(() => this.#writeAll())
    return this.#writing
  }

  async #writeAll(): Promise<void> {
    const { own } = this.#parts
    try {
      for (;;) {
        const steps = own.nextSteps(stepsAtOnce)
        if (steps.length === 0) return
        await this.#send(steps)
      }
    } catch (error) {
      this.end(error)
    } finally {
      this.#writing = null
    }
  }

  /** Sends steps in one transaction; when one of them is denied, each alone. */
  async #send(steps: readonly Step[]): Promise<void> {
    const { store, own, listener } = this.#parts
    for (const step of steps) own.sending(step)
    try {
      const { revision } = await store.transact(
        { compare: [], success: steps.map((step) => this.#operation(step)) },
        this.#options(),
      )
      for (const step of steps) own.done(step, revision)
    } catch (error) {
      if (!(error instanceof MeshError) || error.code !== 'store-denied') throw error
      const [first] = steps
      if (first === undefined) return
      if (steps.length > 1) {
        for (const step of steps) await this.#send([step])
        return
      }
      if (own.refused(first, error.message)) listener.onRefused(first.key, error.message)
    }
    listener.onPublished()
  }

  #options(): CallOptions {
    const { signal } = this.#ending
    const { patienceMs } = this.#settings
    return patienceMs === undefined ? { signal } : { signal, timeoutMs: patienceMs }
  }

  #operation(step: Step): Operation {
    switch (step.kind) {
      case 'put':
        return this.#lease === null ? step : { ...step, lease: this.#lease }
      case 'delete':
        return step
    }
  }
}
