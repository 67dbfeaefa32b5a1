/**
 * Composition of what this host knows of the mesh: the place it takes in it once that is known, when
 * a view goes to workers and kernel, and how a service is found that is not in the view. It decides
 * nothing of what this host offers.
 */

import type { AgentConfig } from './config.ts'
import { HandOver, type HandOverParts } from './discovery/hand-over.ts'
import { Membership } from './discovery/membership.ts'
import type { HostIdentity } from './identity/host-identity.ts'
import type { Clock, Random } from './platform.ts'
import type { OwnRecords } from './registration/own-records.ts'
import { HostAsker } from './tunnel/host-asker.ts'
import type { NotFound } from './workers/messages.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import { trustPrefix } from '#shared/store/keys.ts'

/** What it leans on. */
export interface MeshViewParts extends Omit<HandOverParts, 'clock'> {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly identity: Pick<HostIdentity, 'trust' | 'keeper' | 'openStore' | 'offerRecords'>
  readonly records: Pick<OwnRecords, 'attach'>
  /** Told before the store is followed: what this host offers goes into the first view. */
  readonly onJoin: () => void
  /** Told of every new view. */
  readonly onView: () => void
  /** Told when the store came or went, or took what this host published. */
  readonly onStore: () => void
}

/** Settings of a view. */
export type MeshViewSettings = Pick<AgentConfig, 'host' | 'paths' | 'wholeMesh'>

/** See the header. */
export class MeshView {
  readonly #parts: MeshViewParts
  readonly #settings: MeshViewSettings
  readonly #handOver: HandOver
  /** Null until the host knows its mesh. */
  #membership: Membership | null = null
  #stopping = false

  constructor(parts: MeshViewParts, settings: MeshViewSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#handOver = new HandOver(parts)
  }

  /** Null until the host knows its mesh. */
  get membership(): Membership | null {
    return this.#membership
  }

  /** Null until the host knows its mesh. */
  get snapshot(): Snapshot | null {
    return this.#membership?.discovery.snapshot ?? null
  }

  /** Whether only the services in use are followed. */
  get isOnDemand(): boolean {
    return this.#membership?.onDemand.isOn === true
  }

  /** The hosts with an instance of a service. */
  hostsOf(service: ServiceName): readonly string[] {
    const services = this.snapshot?.services ?? {}
    const view = Object.hasOwn(services, service) ? services[service] : undefined
    return [...new Set(view?.instances.map(({ host }) => host))]
  }

  /** Looks for a service that is not in the view; null: it is now. */
  async lookUp(service: ServiceName): Promise<NotFound | null> {
    if (this.#membership === null) return 'away'
    const { onDemand, discovery } = this.#membership
    const found = await onDemand.lookUp(service)
    if (found !== 'found') return found
    const { services } = await discovery.settled()
    return Object.hasOwn(services, service) ? null : 'unknown'
  }

  /** Services of the mesh are called, or asked for; others have other ways to be known. */
  use(services: readonly ServiceName[]): void {
    if (this.#membership === null) return
    const { onDemand, discovery } = this.#membership
    const known = discovery.snapshot.services
    onDemand.use(services.filter((service) => Object.hasOwn(known, service)))
  }

  /** More may be known of this host than when the view was made. */
  refresh(): void {
    if (this.#membership !== null) this.#handOver.refresh(this.#membership.discovery.snapshot)
  }

  /** Begins to follow the store, once, when the mesh is known. @throws MeshError `trust-domain-changed` */
  async join(trustDomain: TrustDomain): Promise<void> {
    if (this.#membership !== null) {
      this.#membership.ensure(trustDomain)
      return
    }
    const { identity, records, onJoin } = this.#parts
    const membership = this.#place(trustDomain)
    this.#membership = membership
    const { link, discovery } = membership
    discovery.setBanned(Object.keys(identity.trust.trust?.bans.hosts ?? {}))
    this.#listen(membership)
    this.#handOver.start(() => discovery.snapshot)
    await discovery.start()
    if (this.#stopping) return
    records.attach(link)
    onJoin()
    membership.start()
  }

  /** Nothing is handed over any more, and nothing begun. */
  quiet(): void {
    this.#stopping = true
    this.#handOver.stop()
  }

  /** Ends; with `leave` what this host published is withdrawn. */
  async stop(options: { readonly leave: boolean }): Promise<void> {
    await this.#membership?.stop(options)
  }

  #place(trustDomain: TrustDomain): Membership {
    const { clock, identity } = this.#parts
    const { host, paths, wholeMesh } = this.#settings
    const { trust, keeper } = identity
    const asker = new HostAsker({
      clock,
      trust: () => trust.trust,
      credential: () => keeper.host,
    })
    return new Membership(
      {
        ...this.#parts,
        openStore: () => identity.openStore(),
        ask: (lost, service, done) => asker.ask(lost, service, done),
      },
      { host, trustDomain, stateDirectory: paths.state, wholeMesh },
    )
  }

  #listen({ link, discovery }: Membership): void {
    const { identity, onView, onStore } = this.#parts
    link.onChange(({ changedKeys }) => {
      const all = changedKeys === 'all'
      if (all || changedKeys.some((key) => key.startsWith(trustPrefix))) {
        identity.offerRecords(link.view.entries)
      }
    })
    discovery.onChange((snapshot) => {
      this.#handOver.refresh(snapshot)
      onView()
    })
    link.onPublished(onStore)
    link.onState(({ kind }) => {
      onStore()
      // It may have moved.
      if (kind === 'away') identity.keeper.lookAgain()
    })
  }
}
