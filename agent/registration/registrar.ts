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
  type Publication,
  type Withheld,
} from './publication.ts'
import { Roster, type RosterView } from './roster.ts'

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

/** What an offer follows from, beside the time. */
interface Basis {
  readonly inRotation: readonly Manifest[]
  readonly fitness: ReadonlyMap<ServiceName, Fitness>
  readonly presence: HostPresence | null
}

/** Of whom nothing is known. */
const unfit: Fitness = { healthy: false, certified: false }

/** See the header. */
export class Registrar {
  readonly #parts: RegistrarParts
  readonly #settings: RegistrarSettings
  readonly #roster = new Roster()
  readonly #lastCalls: LastCalls | null
  readonly #listeners = new Set<(offer: LocalOffer) => void>()
  #manifests: readonly Manifest[] = []
  #facts: HostFacts | null = null
  #tunnelPort: Port | null = null
  #publication: Publication | null = null
  #offer: LocalOffer = { presence: null, offered: [], local: [] }
  #offered: ReadonlyMap<ServiceName, InstanceRecord> = new Map()
  /** Manifests as they are carried, each with what was known when it was made so. */
  readonly #carried = new WeakMap<Manifest, { readonly known: Fitness; readonly as: Manifest }>()
  /** As it was found last: the same object for as long as it says the same. */
  #fitness: ReadonlyMap<ServiceName, Fitness> = new Map()
  /** What the last refresh was made of. */
  #basis: Basis | null = null
  /** Until then nothing changes with time alone; monotonic milliseconds. */
  #settledUntil = 0
  #timer: Timer | null = null
  #stopped = false

  constructor(parts: RegistrarParts, settings: RegistrarSettings) {
    this.#parts = parts
    this.#settings = settings
    const { clock, logger, carried } = parts
    const onQuiet = (service: ServiceName): void => {
      logger.info({ service }, 'instance: leaving -> gone, nothing is open to it')
      this.#roster.release(service)
      this.#settledUntil = 0
      this.refresh()
    }
    this.#lastCalls = carried === undefined ? null : new LastCalls({ clock, ask: carried, onQuiet })
  }

  get offer(): LocalOffer {
    return this.#offer
  }

  /** The instance of a service that this host offers; null while it offers none. */
  offeredOf(service: ServiceName): InstanceRecord | null {
    return this.#offered.get(service) ?? null
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

  /** Takes over the manifests in force. */
  setManifests(manifests: readonly Manifest[]): void {
    this.#manifests = manifests
    this.refresh()
  }

  /** Says what the machine is. */
  setFacts(facts: HostFacts): void {
    this.#facts = facts
    this.refresh()
  }

  /** Says where workers of the newest generation take tunnels. */
  setTunnelPort(port: Port): void {
    if (port === this.#tunnelPort) return
    this.#tunnelPort = port
    this.refresh()
  }

  /** Asks for everybody's fitness again. */
  refresh(): void {
    if (this.#stopped) return
    const { clock, publish } = this.#parts
    const { host, address, zone, version } = this.#settings
    const tunnelPort = this.#tunnelPort
    const facts = this.#facts === null ? {} : { facts: this.#facts }
    const presence = this.#sameAsBefore(
      tunnelPort === null ? null : { host, address, tunnelPort, zone, version, ...facts },
    )
    const inRotation = this.#manifests.filter(({ service }) => !this.#isWithdrawn(service))
    const fitness = this.#askAll(inRotation)
    const basis: Basis = { inRotation, fitness, presence }
    const now = clock.elapsed()
    if (now < this.#settledUntil && isSameBasis(this.#basis, basis)) return
    this.#basis = basis
    const fitnessOf = ({ service }: Manifest): Fitness => fitness.get(service) ?? unfit
    this.#roster.apply(
      inRotation.map((manifest) => this.#asCarried(manifest, fitnessOf(manifest))),
      now,
    )
    const view = this.#roster.at(now)
    this.#settledUntil = now + (view.changesInMs ?? Infinity)
    this.#wakeFor(view)
    this.#lastCalls?.watch(view.leaving)
    const before = this.#publication
    const publication = publicationOf(host, presence, view.present, fitnessOf, before)
    this.#publication = publication
    this.#log(before, publication)
    if (before === null || !isSame(before.desired, publication.desired)) {
      publish(publication.desired, publication.farewells)
    }
    const { offered } = publication
    const offer = { presence, offered, local: view.local }
    if (isSameOffer(this.#offer, offer)) return
    this.#offer = offer
    this.#offered = new Map(offered.map((record) => [record.service, record]))
    for (const listener of this.#listeners) listener(offer)
  }

  /** Changes nothing any more; what is published stays with the store's lease. */
  stop(): void {
    this.#stopped = true
    this.#timer?.stop()
    this.#lastCalls?.stop()
  }

  /** What is known of each service; the same map for as long as all of it is the same. */
  #askAll(manifests: readonly Manifest[]): ReadonlyMap<ServiceName, Fitness> {
    const before = this.#fitness
    const all = new Map<ServiceName, Fitness>()
    let isSame = true
    for (const manifest of manifests) {
      const answer = this.#parts.fitnessOf(manifest)
      const known = before.get(manifest.service)
      const isKnown = known !== undefined && isSameFitness(known, answer)
      isSame &&= isKnown
      all.set(manifest.service, isKnown ? known : answer)
    }
    if (!isSame || all.size !== before.size) this.#fitness = all
    return this.#fitness
  }

  /** With what was found of how it speaks; the same object until something else is found. */
  #asCarried(manifest: Manifest, known: Fitness): Manifest {
    const before = this.#carried.get(manifest)
    if (before?.known === known) return before.as
    const { protocol, finding, ports = [] } = known
    const carried = new Map(ports.map((one) => [one.name, one.protocol]))
    const as = {
      ...manifest,
      ...labelsOf({ keepAliveMs: finding?.keepAliveMs }),
      protocol: protocol ?? manifest.protocol,
      ports: manifest.ports.map((one) => ({
        ...one,
        protocol: carried.get(one.name) ?? one.protocol,
      })),
    }
    this.#carried.set(manifest, { known, as })
    return as
  }

  #sameAsBefore(presence: HostPresence | null): HostPresence | null {
    const before = this.#offer.presence
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
            this.refresh()
          })
  }

  #log(before: Publication | null, after: Publication): void {
    const { logger } = this.#parts
    const known = new Set(before?.offered.map(({ service }) => service))
    for (const { service, port } of after.offered) {
      if (!known.delete(service)) logger.info({ service, port }, 'instance: withheld -> offered')
    }
    for (const service of known) {
      const reason = this.withheld(service) ?? 'manifest removed'
      logger.info({ service, reason }, 'instance: offered -> withheld')
    }
  }
}

function isSame(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value)
}

function isSameBasis(a: Basis | null, b: Basis): boolean {
  return (
    a !== null &&
    a.fitness === b.fitness &&
    a.presence === b.presence &&
    isSameList(a.inRotation, b.inRotation)
  )
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
