/**
 * Owns this host's registration: brings manifests, health, certificates and the tunnel port together
 * and publishes the result whenever one of them changes. It checks nothing and stores nothing itself.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { labelsOf } from '#shared/model/instance-labels.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { Port, ServiceName } from '#shared/model/names.ts'
import type { HostFacts, HostPresence, InstanceRecord } from '#shared/model/records.ts'
import type { LocalInstance } from '#shared/model/snapshot.ts'
import { LastCalls, type Carried } from './last-calls.ts'
import {
  isSameFitness,
  publicationOf,
  type Fitness,
  type Offering,
  type Publication,
  type Withheld,
} from './publication.ts'
import { isServing, Roster, type RosterView } from './roster.ts'

/** Collaborators of a registrar. */
export interface RegistrarParts {
  readonly clock: Clock
  readonly logger: Logger
  /** `StoreLink.publish` fits. */
  readonly publish: (
    desired: ReadonlyMap<string, string>,
    farewells: ReadonlyMap<string, string>,
  ) => void
  readonly fitnessOf: (manifest: Manifest) => Fitness
  /** Whether an operator has taken a service out of rotation. @default none is */
  readonly isWithdrawn?: (service: ServiceName) => boolean
  /** What is open to the services of this host. Never rejects. @default nobody knows */
  readonly carried?: () => Promise<Carried>
}

/** Settings of a registrar: the host as others know it. */
export type RegistrarSettings = Omit<HostPresence, 'tunnelPort' | 'facts'>

/** What this host offers and what it can still serve. */
export interface LocalOffer {
  readonly presence: HostPresence | null
  readonly offered: readonly InstanceRecord[]
  readonly local: readonly LocalInstance[]
}

/** A service in rotation. */
interface InRotation {
  readonly manifest: Manifest
  readonly fitness: Fitness
  /** The manifest with what was found of how it speaks. */
  readonly as: Manifest
}

const nobody: ReadonlySet<ServiceName> = new Set()
/** Whoever changes after this long, everybody is asked; milliseconds. What only time changes has an event of its own. */
const everybodyMs = 5000

/** See the header. */
export class Registrar {
  readonly #parts: RegistrarParts
  readonly #settings: RegistrarSettings
  readonly #roster = new Roster()
  readonly #lastCalls: LastCalls | null
  readonly #listeners = new Set<(offer: LocalOffer) => void>()
  #manifests: ReadonlyMap<ServiceName, Manifest> = new Map()
  readonly #inRotation = new Map<ServiceName, InRotation>()
  #facts: HostFacts | null = null
  #tunnelPort: Port | null = null
  #publication: Publication | null = null
  #offer: LocalOffer = { presence: null, offered: [], local: [] }
  /** Until then it is enough to ask for those who have changed; monotonic milliseconds. */
  #askedAllUntil = 0
  /** Until then nothing changes with time alone; monotonic milliseconds. */
  #settledUntil = 0
  #timer: Timer | null = null
  #stopped = false

  constructor(parts: RegistrarParts, settings: RegistrarSettings) {
    this.#parts = parts
    this.#settings = settings
    const { clock, logger, carried } = parts
    const onQuiet = (services: readonly ServiceName[]): void => {
      for (const service of services) {
        logger.info({ service }, 'instance: leaving -> gone, nothing is open to it')
        this.#roster.release(service)
      }
      this.#settledUntil = 0
      this.refresh(nobody)
    }
    this.#lastCalls = carried === undefined ? null : new LastCalls({ clock, ask: carried, onQuiet })
  }

  get offer(): LocalOffer {
    return this.#offer
  }

  /** The instance of a service that this host offers; null while it offers none. */
  offeredOf(service: ServiceName): InstanceRecord | null {
    return this.#publication?.made.get(service)?.record ?? null
  }

  /** Why a service of this host is not offered; null while it is. */
  withheld(service: ServiceName): Withheld | null {
    if (this.#isWithdrawn(service)) return 'drained'
    return this.#publication?.withheld.get(service) ?? null
  }

  /** Whether a service of this host takes part, or is on its way out by an operator's wish. */
  rotation(service: ServiceName): 'in' | 'leaving' | 'out' {
    if (!this.#isWithdrawn(service)) return 'in'
    return this.#offer.local.some((one) => one.service === service) ? 'leaving' : 'out'
  }

  /** Requests and connections open to a service that leaves; null: not known, or it does not leave. */
  openTo(service: ServiceName): number | null {
    return this.#lastCalls?.openTo(service) ?? null
  }

  /** Calls back after the offer has changed; answers how to stop that. */
  onChange(listener: (offer: LocalOffer) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Takes over the manifests in force. A host may have a thousand, of which one has changed. */
  setManifests(manifests: readonly Manifest[]): void {
    const before = this.#manifests
    this.#manifests = new Map(manifests.map((manifest) => [manifest.service, manifest]))
    const changed = new Set<ServiceName>()
    for (const [service, manifest] of this.#manifests) {
      if (before.get(service) !== manifest) changed.add(service)
    }
    for (const service of before.keys()) if (!this.#manifests.has(service)) changed.add(service)
    this.refresh(changed)
  }

  /** Says what the machine is. */
  setFacts(facts: HostFacts): void {
    this.#facts = facts
    this.refresh(nobody)
  }

  /** Says where workers of the newest generation take tunnels. */
  setTunnelPort(port: Port): void {
    if (port === this.#tunnelPort) return
    this.#tunnelPort = port
    this.refresh(nobody)
  }

  /** Asks for the fitness of some services again; by default of all. */
  refresh(some: ReadonlySet<ServiceName> | null = null): void {
    if (this.#stopped) return
    const { clock, publish } = this.#parts
    const { host } = this.#settings
    const presence = this.#presence()
    const before = this.#publication
    const isAnew = before === null || presence !== this.#offer.presence
    const now = clock.elapsed()
    const changed = this.#ask(this.#toAsk(some, now), now)
    if (changed.size === 0 && !isAnew && now < this.#settledUntil) return
    const view = this.#roster.at(now)
    this.#settledUntil = now + (view.changesInMs ?? Infinity)
    this.#wakeFor(view)
    this.#lastCalls?.watch(view.leaving)
    const decided = isAnew ? changed.union(this.#inRotation) : changed
    const publication = publicationOf(
      { host, presence },
      decided,
      (service) => this.#offeringOf(service),
      before ?? undefined,
    )
    this.#publication = publication
    this.#log(decided, before, publication)
    const { desired, farewells, offered } = publication
    if (desired !== before?.desired) publish(desired, farewells)
    const offer = { presence, offered, local: view.local }
    if (isSameOffer(this.#offer, offer)) return
    this.#offer = offer
    for (const listener of this.#listeners) listener(offer)
  }

  /** Changes nothing any more; what is published stays with the store's lease. */
  stop(): void {
    this.#stopped = true
    this.#timer?.stop()
    this.#lastCalls?.stop()
  }

  /** Whom to ask now. */
  #toAsk(some: ReadonlySet<ServiceName> | null, now: number): Iterable<ServiceName> {
    if (some !== null && now < this.#askedAllUntil) return some
    this.#askedAllUntil = now + everybodyMs
    return new Set([...this.#manifests.keys(), ...this.#inRotation.keys()])
  }

  /** Asks what is known of services now; answers of which that is something else. */
  #ask(services: Iterable<ServiceName>, now: number): Set<ServiceName> {
    const changed = new Set<ServiceName>()
    for (const service of services) {
      const manifest = this.#manifests.get(service)
      const known = this.#inRotation.get(service)
      if (manifest !== undefined && !this.#isWithdrawn(service)) {
        const fitness = this.#parts.fitnessOf(manifest)
        if (known?.manifest === manifest && isSameFitness(known.fitness, fitness)) continue
        const as = carriedAs(manifest, fitness)
        this.#inRotation.set(service, { manifest, fitness, as })
        // No call reaches what is another's, from wherever it comes.
        if (fitness.isOthers === true) this.#roster.drop(service)
        else this.#roster.take(as, now)
      } else {
        if (!this.#inRotation.delete(service)) continue
        this.#roster.leave(service, now)
      }
      changed.add(service)
    }
    return changed
  }

  #offeringOf(service: ServiceName): Offering | null {
    const known = this.#inRotation.get(service)
    if (known === undefined || !isServing(known.as)) return null
    return { manifest: known.as, fitness: known.fitness }
  }

  /** This host as others are to know it; the same object for as long as it is the same. */
  #presence(): HostPresence | null {
    const { host, address, zone, version } = this.#settings
    const before = this.#offer.presence
    const tunnelPort = this.#tunnelPort
    if (tunnelPort === null) return null
    const facts = this.#facts === null ? {} : { facts: this.#facts }
    const presence = { host, address, tunnelPort, zone, version, ...facts }
    return JSON.stringify(before) === JSON.stringify(presence) ? before : presence
  }

  #isWithdrawn(service: ServiceName): boolean {
    return this.#parts.isWithdrawn?.(service) === true
  }

  /** A timer may come a moment early: whatever it finds settled still, it is set anew. */
  #wakeFor({ changesInMs }: RosterView): void {
    this.#timer?.stop()
    this.#timer =
      changesInMs === null
        ? null
        : this.#parts.clock.after(changesInMs, () => {
            this.#settledUntil = 0
            this.refresh(nobody)
          })
  }

  #log(services: Iterable<ServiceName>, before: Publication | null, after: Publication): void {
    const { logger } = this.#parts
    for (const service of services) {
      const was = before?.made.get(service)
      const is = after.made.get(service)
      if (was === undefined && is !== undefined) {
        logger.info({ service, port: is.record.port }, 'instance: withheld -> offered')
      } else if (was !== undefined && is === undefined) {
        const reason = this.withheld(service) ?? 'manifest removed'
        logger.info({ service, reason }, 'instance: offered -> withheld')
      }
    }
  }
}

/** A manifest with what was found of how it speaks. */
function carriedAs(manifest: Manifest, { protocol, finding, ports = [] }: Fitness): Manifest {
  const carried = new Map(ports.map((one) => [one.name, one.protocol]))
  return {
    ...manifest,
    ...labelsOf({ keepAliveMs: finding?.keepAliveMs }),
    protocol: protocol ?? manifest.protocol,
    ports: manifest.ports.map((one) => ({
      ...one,
      protocol: carried.get(one.name) ?? one.protocol,
    })),
  }
}

/** Whether nothing has changed: what says the same is the same object. */
function isSameOffer(a: LocalOffer, b: LocalOffer): boolean {
  return (
    a.presence === b.presence && isSameList(a.offered, b.offered) && isSameList(a.local, b.local)
  )
}

function isSameList(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index])
}
