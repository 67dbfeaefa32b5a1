/**
 * Owns one session with the store: list, watch from there, grant a lease, put everything this host
 * owns, keep it alive. Any trouble ends it, and it never heals itself: `link.ts` starts the next, which
 * goes on from what the last one left where the store still has that, so that it costs what has changed.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { CallOptions, KeyValue, LeaseId, StoreEvent } from './key-value.ts'
import { Following } from './following.ts'
import { revisionOf, revisionSince, seenAfter, seenIn, type Seen } from './history.ts'
import { instancesPrefix } from './keys.ts'
import type { LeftLeases } from './left-leases.ts'
import type { OwnKeys } from './own-keys.ts'
import { OwnWriter, type WriteListener } from './own-writer.ts'
import { prefixesOf, wholeMesh, type Scope, type ScopeChooser } from './scope.ts'
import type { StoreChange, ViewKeeper } from './view.ts'

/** Whether a session listed everything, or went on from what the last one had seen. */
export type SessionStart = 'listed' | 'resumed'

/** Who is told how a session goes. */
export interface SessionListener extends WriteListener {
  /** The view changed. */
  onChange(change: StoreChange): void
  /** The view is up to date and watched, and every own key is in the store under this session's lease. */
  onReady(began: SessionStart): void
}

/** What a session asks of a store. */
export type SessionStore = Pick<
  KeyValue,
  | 'get'
  | 'list'
  | 'listAll'
  | 'count'
  | 'watch'
  | 'grantLease'
  | 'keepAlive'
  | 'transact'
  | 'revokeLease'
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
  /** What the session before it saw last, see `lastSeen`. */
  readonly lastSeen?: Seen | null
  /** Decides what is followed. @default everything below the prefix is */
  readonly scope?: ScopeChooser
}

/** Settings of a session. */
export interface SessionSettings {
  readonly prefix: string
  /** How long own keys outlive this host's silence. */
  readonly leaseTtlMs: number
  /** Longest wait for each answer but that to a renewal. @default the client's own */
  readonly patienceMs?: number
  /**
   * Longest wait before a listing that nobody could expect: where the store's history is gone it is gone
   * for all hosts. @default 0
   */
  readonly spreadMs?: number
}

/** So many changes are told rather than listed, or as many as the view has entries. */
const fewChanges = 1000
/** Etcd tells the changes of so many revisions at once to a watch that is behind, and more later. */
const revisionsAtOnce = 1000
/** So many times the lease's, a watch may tell nothing while others do: it may be far behind. */
const behindLeases = 4

/** See the header. */
export class Session {
  readonly #parts: SessionParts
  readonly #settings: SessionSettings
  readonly #ending = new AbortController()
  #reason: Error | null = null
  readonly #following: Following
  readonly #writer: OwnWriter
  /** Of every call but renewals. */
  readonly #options: CallOptions
  #lease: LeaseId | null = null
  #lastSeen: Seen | null
  /** Whether everything is followed, so that there is one revision up to which all is known. */
  #isWhole = false
  /** What happened up to there was missed, and is told late. */
  #missedUntil = 0
  #catchingUp: 'waiting' | 'told-in-part' | 'told' | 'done' = 'waiting'
  /** What was missed has been told. */
  readonly #caughtUp = Promise.withResolvers<void>()
  /** There is a lease to write under, or there will be none. */
  readonly #stands = Promise.withResolvers<void>()
  #isGivenBack = false

  constructor(parts: SessionParts, settings: SessionSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#lastSeen = parts.lastSeen ?? null
    const { signal } = this.#ending
    const { patienceMs } = settings
    this.#options = patienceMs === undefined ? { signal } : { signal, timeoutMs: patienceMs }
    this.#writer = new OwnWriter({ ...parts, onFailure: (error) => this.end(error) }, this.#options)
    this.#following = new Following(
      {
        ...parts,
        onEvents: (events, known) => this.#onEvents(events, known),
        onProgress: () => this.#onProgress(),
        onEnd: (error) => this.#onEnd(error),
      },
      { behindMs: behindLeases * settings.leaseTtlMs },
    )
  }

  /**
   * What the view has seen last, where it has everything up to there: a session that finds it in the store's
   * history may go on from it. Null: the view has to be listed.
   */
  get lastSeen(): Seen | null {
    return this.#lastSeen
  }

  /** Runs until something ends it and answers what that was; never rejects. */
  async run(): Promise<Error> {
    const { store, left } = this.#parts
    const { leaseTtlMs } = this.#settings
    try {
      const [kept, scope, seen] = await Promise.all([
        left.goOn(store, this.#options),
        this.#scope(),
        this.#findLastSeen(),
      ])
      const from = scope.kind === 'whole' ? seen : null
      await this.#follow(scope, { from, kept })
      const lease = this.#lease ?? (await store.grantLease(leaseTtlMs, this.#options)).lease
      this.#lease = lease
      this.#stands.resolve()
      await this.#writer.write(lease)
      await Promise.all([
        this.#tellWhenReady(from === null ? 'listed' : 'resumed'),
        this.#keepAlive(lease),
      ])
    } catch (error) {
      this.end(error)
    } finally {
      this.#stands.resolve()
      this.#following.stop()
      if (this.#lease !== null && !this.#isGivenBack) left.add(this.#lease, { ttlMs: leaseTtlMs })
    }
    return this.#reason ?? new Error('the session ended')
  }

  /** The prefixes that are followed. */
  get followed(): ReadonlySet<string> {
    return this.#following.prefixes
  }

  /**
   * Follows one more prefix and resolves, once the view has it, whether there is anything below it;
   * an empty one is followed only with `evenEmpty`. Rejects with what the store says.
   */
  async follow(prefix: string, options: { readonly evenEmpty: boolean }): Promise<boolean> {
    const { store, view, listener } = this.#parts
    const listing = await store.list(prefix, this.#options)
    this.#ending.signal.throwIfAborted()
    const isThere = listing.entries.length > 0
    if (this.#following.has(prefix) || !(isThere || options.evenEmpty)) return isThere
    listener.onChange(view.extend(listing, prefix))
    this.#following.add(prefix, listing.revision)
    return isThere
  }

  /** How many keys there are below a prefix. */
  async count(prefix: string): Promise<number> {
    return await this.#parts.store.count(prefix, this.#options)
  }

  /** Follows a prefix no more; the view forgets what is below it. */
  unfollow(prefix: string): void {
    const { view, listener } = this.#parts
    if (this.#following.remove(prefix)) listener.onChange(view.forget(prefix))
  }

  /** Ends the session; the first reason counts. */
  end(reason: unknown): void {
    this.#reason ??= reason instanceof Error ? reason : new Error(messageOf(reason))
    this.#ending.abort(this.#reason)
  }

  /** What this host wants in the store changed. */
  publish(): void {
    if (this.#lease === null || this.#isGivenBack || this.#ending.signal.aborted) return
    void this.#writer.write(this.#lease)
  }

  /**
   * Withdraws every own key, which nobody wants any more, and gives the lease back; while the session is only
   * beginning, once it has one. Answers whether it could.
   */
  async withdraw(): Promise<boolean> {
    await this.#stands.promise
    const lease = this.#lease
    if (lease === null || this.#ending.signal.aborted) return false
    await this.#writer.write(lease)
    if (this.#ending.signal.aborted) return false
    await this.#parts.store.revokeLease(lease)
    return (this.#isGivenBack = true)
  }

  /** Brings the view up to date and follows it, and finds out which own keys stand under a lease that is kept. */
  async #follow(
    scope: Scope,
    { from, kept }: { readonly from: Seen | null; readonly kept: LeaseId | null },
  ): Promise<void> {
    const { store, own, view, listener } = this.#parts
    const prefixes = prefixesOf(scope, this.#settings.prefix)
    const listing = from === null ? await store.listAll(prefixes, this.#options) : null
    const covers = (key: string): boolean => prefixes.some((prefix) => key.startsWith(prefix))
    const lease = kept === null ? null : await this.#keep(kept, { isOld: from === null, covers })
    this.#ending.signal.throwIfAborted()
    this.#isWhole = scope.kind === 'whole'
    if (listing !== null) {
      listener.onChange(view.replace(listing, scope))
      this.#lastSeen = this.#isWhole ? seenIn(listing) : null
    }
    this.#lease = lease
    const known = from === null ? (listing?.revision ?? 0) : revisionOf(from)
    for (const one of prefixes) this.#following.add(one, known)
    if (from === null) this.#beCaughtUp()
    own.restart(lease === null || from === null ? null : { upTo: known, covers })
    for (const { key, value, modRevision, lease: its } of listing?.entries ?? []) {
      if (its !== null && its === lease) own.found(key, value, modRevision)
    }
  }

  /** Takes a lease over: not one under which something may come that nobody would see. */
  async #keep(
    kept: LeaseId,
    { isOld, covers }: { readonly isOld: boolean; readonly covers: (key: string) => boolean },
  ): Promise<LeaseId | null> {
    const { own, left, store } = this.#parts
    if (own.isDoubtful((key) => !covers(key))) {
      left.giveUp(kept)
      return null
    }
    // To list may have taken as long as it lives.
    const lease = isOld ? await left.goOn(store, this.#options) : kept
    if (lease !== null) left.take(lease)
    return lease
  }

  /** What was seen last, where the store still has that, and not much has happened since. */
  async #findLastSeen(): Promise<Seen | null> {
    const { store, view, clock, random } = this.#parts
    const seen = this.#lastSeen
    if (seen === null) return null
    const revision = await revisionSince(seen, store, this.#options)
    if (revision === null) {
      // All hosts will list.
      await sleep(clock, (this.#settings.spreadMs ?? 0) * random.fraction(), this.#ending.signal)
      return null
    }
    if (revision - revisionOf(seen) > Math.max(fewChanges, view.entries.size)) return null
    this.#missedUntil = revision
    return seen
  }

  /** Whether an own key has to be written again after a change that was told. */
  #judge(event: StoreEvent): boolean {
    const { own } = this.#parts
    if (event.kind === 'delete') return own.lost(event.key, event.modRevision)
    const { key, value, modRevision, lease } = event.entry
    if (lease !== null && lease === this.#lease) return own.found(key, value, modRevision)
    own.overwritten(key, modRevision)
    return false
  }

  async #scope(): Promise<Scope> {
    const { scope, store } = this.#parts
    if (scope === undefined) return wholeMesh
    return scope.choose(await store.count(instancesPrefix, this.#options))
  }

  async #tellWhenReady(began: SessionStart): Promise<void> {
    await this.#caughtUp.promise
    if (!this.#ending.signal.aborted) this.#parts.listener.onReady(began)
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
      this.#following.demandSignOfLife()
      this.#following.askForSignOfLife()
      await this.#renew(lease)
      if (clock.elapsed() < retryAt) continue
      retryAt = clock.elapsed() + leaseTtlMs
      own.retryRefused()
      await this.#writer.write(lease)
    }
  }

  /** Whose going no watch would tell of is put again. */
  async #giveBackLeft(): Promise<void> {
    const { own, left, store } = this.#parts
    const options = { signal: this.#ending.signal, timeoutMs: this.#settings.leaseTtlMs / 5 }
    if (!(await left.giveBack(store, options))) return
    if (own.doubt((key) => !this.#following.covers(key))) this.publish()
  }

  /**
   * A server that is late and yet tells of changes is busy, not gone: it is asked again for as long as
   * the lease may be there.
   */
  async #renew(lease: LeaseId): Promise<void> {
    const { store, clock } = this.#parts
    const { leaseTtlMs } = this.#settings
    const options = { signal: this.#ending.signal, timeoutMs: leaseTtlMs / 5 }
    const until = clock.elapsed() + leaseTtlMs / 2
    for (;;) {
      try {
        await store.keepAlive(lease, options)
        return
      } catch (error) {
        const isLate = error instanceof MeshError && error.code === 'store-timeout'
        if (!isLate || !this.#following.isHeard || clock.elapsed() > until) throw error
      }
      this.#following.askForSignOfLife()
    }
  }

  #onEnd(error: Error): void {
    const isCompacted = error instanceof MeshError && error.code === 'store-compacted'
    if (isCompacted) this.#lastSeen = null
    this.end(error)
  }

  /** @param known - the revision up to which everything below the same prefix was told before */
  #onEvents(events: readonly StoreEvent[], known: number): void {
    if (this.#ending.signal.aborted) return
    const { view, listener } = this.#parts
    let again = false
    let wasMissed = false
    for (const event of events) {
      const { modRevision } = event.kind === 'delete' ? event : event.entry
      if (modRevision <= known) continue
      wasMissed ||= modRevision <= this.#missedUntil
      if (this.#judge(event)) again = true
      if (this.#isWhole) this.#lastSeen = seenAfter(this.#lastSeen, event)
    }
    const change = view.apply(events, known)
    if (change !== null) listener.onChange(wasMissed ? { ...change, wasMissed } : change)
    if (again) this.publish()
    if (this.#catchingUp === 'done') return
    this.#catchingUp = revisionsOf(events) < revisionsAtOnce ? 'told' : 'told-in-part'
    this.#following.ask()
  }

  /** Older etcds say this whenever they are asked, also before they have looked for what a watch missed. */
  #onProgress(): void {
    if (this.#catchingUp === 'told') this.#beCaughtUp()
    else if (this.#catchingUp === 'told-in-part') this.#catchingUp = 'told'
  }

  #beCaughtUp(): void {
    this.#catchingUp = 'done'
    this.#caughtUp.resolve()
  }
}

function revisionsOf(events: readonly StoreEvent[]): number {
  return new Set(events.map((one) => (one.kind === 'put' ? one.entry : one).modRevision)).size
}
