/**
 * Owns whether this host follows the whole mesh or, where that is too large, only the services it
 * uses, and looks up a service when somebody asks for it. What is in use is known before that is
 * needed, and stays. The view itself is discovery's matter.
 */

import type { Clock, Random, Timer } from '#shared/lifecycle/clock.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ServiceName } from '#shared/model/names.ts'
import { instancesOfService, instancesPrefix } from '#shared/store/keys.ts'
import type { StoreLink } from '#shared/store/link.ts'
import { wholeMesh, type Scope, type ScopeChooser } from '#shared/store/scope.ts'
import { ServicesInUse } from './services-in-use.ts'

/** What came of looking for a service. */
export type Lookup =
  | 'found'
  | 'unknown'
  /** The store could not be asked, or did not answer in time. */
  | 'away'
  /** Too many are looked for at once, or in use. */
  | 'overloaded'

/** What it leans on. */
export interface OnDemandParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly store: () => Pick<
    StoreLink,
    'view' | 'state' | 'followed' | 'follow' | 'unfollow' | 'count' | 'renew'
  >
  readonly inUse?: ServicesInUse
}

/** Settings. */
export interface OnDemandSettings {
  /** Up to so many instances the whole mesh is followed. */
  readonly wholeMesh: number
  /** How long a lookup may take. @default 1500 */
  readonly lookupMs?: number
}

/** The whole mesh is followed again below this part of the limit, lest it go to and fro. */
const backAt = 0.8
const judgeAfterMs = 1000
const recountMs = 300_000
const expireMs = 60_000
const tellAgainMs = 3_600_000
/** A session that was replaced, as by a renewed certificate, is there again within this. */
const briefMs = 2000
/** How long a name that was not found is not looked for again. */
const missingMs = 3000
const mostMissing = 4096
const mostLookups = 64

/** See the header. */
export class OnDemand implements ScopeChooser {
  readonly #parts: OnDemandParts
  readonly #settings: OnDemandSettings
  readonly #inUse: ServicesInUse
  readonly #listeners = new Set<() => void>()
  readonly #looking = new Map<ServiceName, Promise<Lookup>>()
  /** Until when each name counts as missing, the oldest first. */
  readonly #missing = new Map<ServiceName, number>()
  /** Lookups that wait for the store. */
  readonly #waiting = new Set<AbortController>()
  readonly #counts = new Map<Lookup, number>()
  #isOn = false
  #judging: Timer | null = null
  #timers: readonly Timer[] = []

  constructor(parts: OnDemandParts, settings: OnDemandSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#inUse = parts.inUse ?? new ServicesInUse()
  }

  /** Whether only services in use are followed. */
  get isOn(): boolean {
    return this.#isOn
  }

  /** What sessions follow. */
  get scope(): Scope {
    return this.#isOn ? { kind: 'services', services: this.#inUse.all } : wholeMesh
  }

  /** How many services are in use. */
  get inUse(): number {
    return this.#inUse.all.size
  }

  /** When services that were called or asked for were used last, for the disk. */
  get used(): ReadonlyMap<ServiceName, number> {
    return this.#inUse.used
  }

  /** How many lookups ended how. */
  get counts(): ReadonlyMap<Lookup, number> {
    return this.#counts
  }

  /** Calls back when the mode, or what is in use, has changed. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /** Takes back what the disk has. */
  restore(isOn: boolean, used: Iterable<readonly [ServiceName, number]>): void {
    this.#isOn = isOn
    this.#inUse.restore(used)
  }

  /** Begins to look now and then at the size of the mesh, and at what nobody uses any more. */
  start(): void {
    const { clock, random } = this.#parts
    const every = (ms: number, run: () => void): Timer =>
      clock.every(ms * (0.75 + random.fraction() / 2), run)
    this.#timers = [
      every(recountMs, () => void this.#recount()),
      every(expireMs, () => this.#expire()),
    ]
  }

  stop(): void {
    this.#judging?.stop()
    for (const timer of this.#timers) timer.stop()
  }

  choose(instances: number): Scope {
    this.#judge(instances)
    return this.scope
  }

  /** The store is there: what has come into use meanwhile is followed. */
  connected(): void {
    for (const waiting of this.#waiting) waiting.abort()
    if (this.#isOn) this.#reconcile()
  }

  /** The view has changed: the mesh may have become too large. */
  changed(): void {
    if (this.#isOn) return
    this.#judging ??= this.#parts.clock.after(judgeAfterMs, () => {
      this.#judging = null
      if (this.#isOn) return
      let instances = 0
      for (const key of this.#parts.store().view.entries.keys()) {
        if (key.startsWith(instancesPrefix)) instances += 1
      }
      if (this.#judge(instances)) this.#startOver(instances)
    })
  }

  /** Says which services manifests name, and this host serves. */
  pin(services: ReadonlySet<ServiceName>): void {
    this.#inUse.pin(services)
    if (this.#isOn) this.#reconcile()
  }

  /** Somebody on this host calls or asks for these, which are known. */
  use(services: Iterable<ServiceName>): void {
    const now = this.#parts.clock.now()
    let isNews = false
    for (const service of services) {
      // The disk need not know of every use, but of the day.
      isNews ||= now - (this.#inUse.used.get(service) ?? 0) > tellAgainMs
      this.#inUse.use(service, now)
    }
    if (isNews) this.#tell()
  }

  /** Looks for a service that is not known here. Never rejects, and takes a bounded time. */
  async lookUp(service: ServiceName): Promise<Lookup> {
    const result = await this.#lookUp(service)
    this.#counts.set(result, (this.#counts.get(result) ?? 0) + 1)
    return result
  }

  async #lookUp(service: ServiceName): Promise<Lookup> {
    const { clock, store } = this.#parts
    const underWay = this.#looking.get(service)
    if (underWay !== undefined) return underWay
    if ((this.#missing.get(service) ?? 0) > clock.elapsed()) return 'unknown'
    if (!(await this.#isThereSoon())) return 'away'
    const { followed } = store()
    const isFollowed = !this.#isOn || followed.has(instancesOfService(service))
    if (isFollowed) return this.#isThere(service) ? 'found' : 'unknown'
    const other = this.#looking.get(service)
    if (other !== undefined) return other
    if (this.#looking.size >= mostLookups) return 'overloaded'
    const looking = this.#look(service).finally(() => this.#looking.delete(service))
    this.#looking.set(service, looking)
    return looking
  }

  /** Whether the store can be asked, or can be in a moment: an outage is not waited for. */
  async #isThereSoon(): Promise<boolean> {
    const { clock, store } = this.#parts
    const { state } = store()
    if (state.kind === 'connected') return true
    const leftMs = state.since + briefMs - clock.now()
    if (leftMs <= 0 || this.#waiting.size >= mostLookups) return false
    const enough = new AbortController()
    this.#waiting.add(enough)
    await sleep(clock, Math.min(leftMs, this.#settings.lookupMs ?? 1500), enough.signal)
    this.#waiting.delete(enough)
    return store().state.kind === 'connected'
  }

  async #look(service: ServiceName): Promise<Lookup> {
    const { clock } = this.#parts
    const enough = new AbortController()
    const late = sleep(clock, this.#settings.lookupMs ?? 1500, enough.signal)
    try {
      return await Promise.race([this.#follow(service), late.then((): Lookup => 'away')])
    } catch (error) {
      this.#parts.logger.debug({ service, problem: messageOf(error) }, 'service not looked up')
      return 'away'
    } finally {
      enough.abort()
    }
  }

  /** Also an answer that comes too late for whoever asked is of use to the next. */
  async #follow(service: ServiceName): Promise<Lookup> {
    const { clock, logger, store } = this.#parts
    const prefix = instancesOfService(service)
    const isThere = await store().follow(prefix, { evenEmpty: this.#inUse.has(service) })
    if (!isThere) {
      this.#miss(service)
      return 'unknown'
    }
    if (!this.#inUse.use(service, clock.now())) {
      store().unfollow(prefix)
      return 'overloaded'
    }
    logger.info({ service }, 'service discovered on demand')
    this.#tell()
    return 'found'
  }

  #isThere(service: ServiceName): boolean {
    const prefix = instancesOfService(service)
    return this.#parts
      .store()
      .view.entries.keys()
      .some((key) => key.startsWith(prefix))
  }

  #miss(service: ServiceName): void {
    this.#missing.delete(service)
    this.#missing.set(service, this.#parts.clock.elapsed() + missingMs)
    const [oldest] = this.#missing.keys()
    if (this.#missing.size > mostMissing && oldest !== undefined) this.#missing.delete(oldest)
  }

  /** Whether that changes the mode. */
  #judge(instances: number): boolean {
    const limit = this.#settings.wholeMesh
    const isOn = this.#isOn ? instances > limit * backAt : instances > limit
    if (isOn === this.#isOn) return false
    this.#isOn = isOn
    const facts = { instances, limit, inUse: this.inUse }
    const { logger } = this.#parts
    if (isOn) logger.info(facts, 'discovery: whole mesh -> services in use')
    else logger.info(facts, 'discovery: services in use -> whole mesh')
    this.#tell()
    return true
  }

  #startOver(instances: number): void {
    this.#parts.store().renew(`the mesh has ${instances} instances: other keys are followed`)
  }

  async #recount(): Promise<void> {
    if (!this.#isOn) return
    try {
      const instances = await this.#parts.store().count(instancesPrefix)
      if (this.#isOn && this.#judge(instances)) this.#startOver(instances)
    } catch (error) {
      this.#parts.logger.debug({ problem: messageOf(error) }, 'instances not counted')
    }
  }

  #expire(): void {
    const before = this.#inUse.used.size
    this.#inUse.expire(this.#parts.clock.now())
    if (this.#inUse.used.size !== before) this.#tell()
    if (this.#isOn) this.#reconcile()
  }

  /** Follows what is in use and nothing else. */
  #reconcile(): void {
    const { logger, store } = this.#parts
    const { followed } = store()
    if (followed.size === 0) return
    const wanted = new Map(Array.from(this.#inUse.all, (one) => [instancesOfService(one), one]))
    for (const [prefix, service] of wanted) {
      if (followed.has(prefix) || this.#looking.has(service)) continue
      const following = store()
        .follow(prefix, { evenEmpty: true })
        .then(
          (isThere): Lookup => (isThere ? 'found' : 'unknown'),
          (error: unknown): Lookup => {
            logger.debug({ service, problem: messageOf(error) }, 'service not followed')
            return 'away'
          },
        )
        .finally(() => this.#looking.delete(service))
      this.#looking.set(service, following)
    }
    for (const prefix of followed) {
      const isService = prefix.startsWith(instancesPrefix)
      if (isService && !wanted.has(prefix) && !this.#isLooked(prefix)) store().unfollow(prefix)
    }
  }

  #isLooked(prefix: string): boolean {
    return this.#looking.keys().some((service) => instancesOfService(service) === prefix)
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}
