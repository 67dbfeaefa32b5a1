/**
 * Owns the way from the store's view and this host's own instances to the snapshot workers act on.
 * Changes that come together make one snapshot. The store being away takes nothing out of it, and
 * the disk stands in for a store that is away at the start.
 */

import type { Clock, Random, Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ExternalView } from '#shared/model/external.ts'
import type { HostName, TrustDomain } from '#shared/model/names.ts'
import type { ServicePolicy } from '#shared/model/policy.ts'
import type { HostPresence, InstanceRecord } from '#shared/model/records.ts'
import type { ListenerView, LocalInstance, Snapshot } from '#shared/model/snapshot.ts'
import { deepFreeze } from '#shared/schema/freeze.ts'
import { isInScope } from '#shared/store/scope.ts'
import { wasMissed, type StoreChange, type StoreView } from '#shared/store/view.ts'
import { Catalog } from './catalog.ts'
import type { CachedView, CacheReading } from './disk-cache.ts'
import { everything, type Followed } from './followed.ts'
import { LostHosts, type LostHost, type LostHostsParts } from './lost-hosts.ts'
import { VanishingGuard } from './vanishing.ts'
import { ViewSaver, type ViewSaverParts } from './view-saver.ts'

/** Collaborators of discovery. */
export interface DiscoveryParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Asks a host that vanished from the store whether it is there; see `LostHosts`. */
  readonly ask: LostHostsParts['ask']
  /** `StoreLink` fits. */
  readonly store: ViewSaverParts['store'] & {
    readonly view: StoreView
    onChange(listener: (change: StoreChange) => void): () => void
  }
  /** `DiskCache` fits. */
  readonly cache: {
    load(): Promise<CacheReading>
    save(view: CachedView): Promise<void>
  }
  /** `OnDemand` fits. @default the whole mesh is followed */
  readonly onDemand?: Followed
}

/** Settings of discovery. */
export interface DiscoverySettings {
  readonly host: HostName
  readonly trustDomain: TrustDomain
  /** Changes within this long make one snapshot. @default 10 */
  readonly gatherMs?: number
  /** The disk is at most this long behind. @default 1000 */
  readonly saveMs?: number
}

/** What this host itself contributes. */
export interface LocalFacts {
  readonly presence: HostPresence | null
  readonly offered: readonly InstanceRecord[]
  readonly local: readonly LocalInstance[]
  readonly listeners: readonly ListenerView[]
  /** The same object until one changes. @default none */
  readonly external?: readonly ExternalView[]
  /** By service; the same object until a policy changes. */
  readonly policies: Readonly<Record<string, ServicePolicy>>
}

/** Where the view of other hosts comes from. */
export type ViewSource = 'store' | 'disk' | 'none'

/** Between two snapshots of 10,000 records lie 100 ms. */
const entriesPerMs = 100

/** See the header. */
export class Discovery {
  readonly #parts: DiscoveryParts
  readonly #settings: DiscoverySettings
  readonly #catalog: Catalog
  readonly #followed: Followed
  readonly #saver: ViewSaver
  readonly #guard = new VanishingGuard()
  readonly #lost: LostHosts
  readonly #listeners = new Set<(snapshot: Snapshot) => void>()
  #source: ViewSource = 'none'
  #revision = 0
  #facts: LocalFacts = { presence: null, offered: [], local: [], listeners: [], policies: {} }
  #snapshot: Snapshot
  #gathering: Timer | null = null
  /** For who waits until it has ended. */
  #emitting: PromiseWithResolvers<void> | null = null
  #emittedAtMs = -Infinity
  #expiring: Timer | null = null
  #unsubscribe: (() => void) | null = null
  #stopped = false

  constructor(parts: DiscoveryParts, settings: DiscoverySettings) {
    const { host, trustDomain } = settings
    this.#parts = parts
    this.#settings = settings
    this.#catalog = new Catalog(host)
    this.#lost = new LostHosts(parts)
    this.#followed = parts.onDemand ?? everything
    const { gatherMs = 10, saveMs = 1000 } = settings
    this.#saver = new ViewSaver({ ...parts, view: () => this.#toSave() }, { gatherMs, saveMs })
    this.#followed.onChange(() => {
      this.#gather()
      this.#saver.later()
    })
    this.#snapshot = deepFreeze({
      revision: 0,
      sequence: 0,
      trustDomain,
      host,
      services: {},
      hosts: {},
      local: [],
      listeners: [],
      policies: {},
    })
  }

  /** The newest snapshot; sequence 0 before the first. */
  get snapshot(): Snapshot {
    return this.#snapshot
  }

  /** See `ViewSaver.vouchedAtMs`. */
  get vouchedAtMs(): number {
    return this.#saver.vouchedAtMs
  }

  /** Hosts that the store has lost sight of and that are kept, because they may be there. */
  get hostsKept(): readonly HostName[] {
    return this.#lost.names
  }

  get source(): ViewSource {
    return this.#source
  }

  /** What is wrong with which record of the store, by key. */
  get problems(): ReadonlyMap<string, string> {
    return this.#catalog.problems
  }

  /** Calls back with every new snapshot; answers how to stop that. */
  onChange(listener: (snapshot: Snapshot) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Begins with what the disk has, then follows the store. */
  async start(): Promise<void> {
    if (this.#unsubscribe !== null) return
    const { store, cache, logger } = this.#parts
    const reading = await cache.load()
    if (this.#stopped) return
    if (reading.kind === 'loaded') {
      this.#revision = reading.view.revision
      this.#saver.restore(reading.view.savedAtMs)
      this.#source = 'disk'
      const { revision, entries, onDemand = false, used = [] } = reading.view
      for (const [key, text] of entries) this.#catalog.set(key, text)
      this.#followed.restore(onDemand, used)
      logger.info({ revision, entries: entries.size }, 'view of the mesh read from the disk')
    } else {
      logger.info({ reason: reading.reason }, 'no view of the mesh on the disk')
    }
    this.#unsubscribe = store.onChange((change) => this.#onStoreChange(change))
    const { revision } = store.view
    if (revision > 0) this.#onStoreChange({ revision, changedKeys: 'all', removed: new Map() })
    this.#emit()
  }

  /** The newest snapshot, once it has what is known now. */
  async settled(): Promise<Snapshot> {
    if (this.#gathering !== null) await (this.#emitting ??= Promise.withResolvers<void>()).promise
    return this.#snapshot
  }

  /** Takes over what this host contributes. */
  setLocal(facts: LocalFacts): void {
    this.#facts = facts
    this.#catalog.setOwn(facts.presence, facts.offered)
    this.#gather()
  }

  /** Says whose instances nobody is to call, whatever the store says. */
  setBanned(hosts: readonly string[]): void {
    this.#catalog.setBanned(new Set(hosts))
    this.#gather()
  }

  /** Follows nothing any more; what has not been written is written now. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#unsubscribe?.()
    this.#gathering?.stop()
    this.#emitting?.resolve()
    this.#expiring?.stop()
    this.#lost.stop()
    await this.#saver.stop()
  }

  #onStoreChange(change: StoreChange): void {
    const { entries } = this.#parts.store.view
    const keys = change.changedKeys === 'all' ? entries.keys() : change.changedKeys
    for (const key of keys) {
      const text = entries.get(key)
      if (text === undefined) continue
      this.#guard.returned(key)
      this.#take(key, text)
    }
    this.#forget(change)
    this.#drop(this.#vanished(change))
    this.#source = 'store'
    this.#revision = change.revision
    this.#gather()
    this.#saver.vouched()
    this.#followed.changed()
  }

  /** What is not followed any more has not vanished: nobody waits for it. */
  #forget({ forgotten = [], changedKeys }: StoreChange): void {
    const { scope } = this.#followed
    const isListing = changedKeys === 'all' && scope.kind !== 'whole'
    // The disk may have had more than the view.
    const others = isListing
      ? this.#catalog.texts.keys().filter((key) => !isInScope(scope, key))
      : []
    const keys = [...forgotten, ...others]
    if (keys.length === 0) return
    for (const key of keys) this.#guard.returned(key)
    this.#catalog.forget(keys)
    this.#awaitExpiry()
  }

  #toSave(): Omit<CachedView, 'savedAtMs'> | null {
    if (this.#source !== 'store') return null
    return {
      revision: this.#revision,
      entries: new Map(this.#catalog.texts),
      used: new Map(this.#followed.used),
      onDemand: this.#followed.isOn,
    }
  }

  /** The keys to drop now. */
  #vanished(change: StoreChange): readonly string[] {
    const { clock, logger, store } = this.#parts
    const removed = this.#source === 'disk' ? this.#missing(store.view.entries) : change.removed
    if (removed.size === 0) return []
    // What the disk had may be long out of date: its hosts are asked, but not waited for.
    const isLate = wasMissed(change) && this.#source === 'store'
    const hosts = this.#catalog.hostCount
    const { dropped, isStorm } = this.#guard.vanish({ removed, isLate, hosts }, clock.elapsed())
    if (isStorm) logger.warn('many hosts vanished from the store at once; kept for now')
    this.#awaitExpiry()
    return dropped
  }

  /** What is known and not in the store. */
  #missing(entries: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
    return new Map([...this.#catalog.texts].filter(([key]) => !entries.has(key)))
  }

  #awaitExpiry(): void {
    const { clock, logger } = this.#parts
    this.#expiring?.stop()
    const now = clock.elapsed()
    this.#lost.watch(this.#placesOf(this.#guard.lostHosts))
    const dueMs = this.#guard.dueInMs(now)
    this.#expiring =
      dueMs === null
        ? null
        : clock.after(dueMs, () => {
            const expired = this.#guard.expire(clock.elapsed(), (host) => this.#isGone(host))
            if (expired.length > 0) {
              logger.info({ keys: expired.length }, 'records that vanished did not come back')
              this.#drop(expired)
              this.#gather()
            }
            this.#awaitExpiry()
          })
  }

  /** Whether a host that vanished whole has gone; one that nobody calls is not asked, nor waited for. */
  #isGone(host: HostName): boolean {
    return this.#catalog.placeOf(host) === null || this.#lost.isSilent(host)
  }

  #placesOf(hosts: ReadonlySet<HostName>): ReadonlyMap<HostName, LostHost> {
    const places = new Map<HostName, LostHost>()
    for (const host of hosts) {
      const place = this.#catalog.placeOf(host)
      if (place !== null) places.set(host, place)
    }
    return places
  }

  #drop(keys: readonly string[]): void {
    for (const key of keys) this.#catalog.set(key, undefined)
  }

  #take(key: string, text: string): void {
    const known = this.#catalog.problems.get(key)
    if (this.#catalog.set(key, text)) return
    const problem = this.#catalog.problems.get(key)
    if (problem !== known) {
      this.#parts.logger.warn({ key, problem }, 'record rejected; the last good one stays')
    }
  }

  #gather(): void {
    if (this.#stopped || this.#unsubscribe === null) return
    this.#gathering ??= this.#parts.clock.after(this.#gatherInMs(), () => this.#emit())
  }

  /**
   * Soon after a quiet time. A snapshot is handed over whole: the larger the mesh, the less often, so
   * that a storm of changes costs a bounded part of the time, here and in the workers.
   */
  #gatherInMs(): number {
    const { clock, store } = this.#parts
    const pauseMs = store.view.entries.size / entriesPerMs
    return Math.max(this.#settings.gatherMs ?? 10, this.#emittedAtMs + pauseMs - clock.elapsed())
  }

  #emit(): void {
    this.#gathering?.stop()
    this.#gathering = null
    this.#emitting?.resolve()
    this.#emitting = null
    this.#emittedAtMs = this.#parts.clock.elapsed()
    const before = this.#snapshot
    const services = this.#catalog.services()
    const hosts = this.#catalog.hosts()
    const { local, listeners, external, policies } = this.#facts
    const { isOn: onDemand } = this.#followed
    const isSame =
      before.sequence > 0 &&
      before.services === services &&
      before.hosts === hosts &&
      before.local === local &&
      before.listeners === listeners &&
      before.external === external &&
      before.policies === policies &&
      (before.onDemand ?? false) === onDemand
    if (isSame) return
    this.#snapshot = deepFreeze({
      ...before,
      ...(onDemand || before.onDemand === true ? { onDemand } : {}),
      revision: this.#revision,
      sequence: before.sequence + 1,
      services,
      hosts,
      local,
      listeners,
      ...(external === undefined ? {} : { external }),
      policies,
    })
    for (const listener of this.#listeners) listener(this.#snapshot)
  }
}
