/**
 * Owns this host's place in one mesh: the link to its store and the view made from it. There is one
 * from the moment the mesh is known until the control process ends. It decides nothing.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName, TrustDomain } from '#shared/model/names.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { meshPrefix } from '#shared/store/keys.ts'
import { StoreLink } from '#shared/store/link.ts'
import { DiskCache } from './disk-cache.ts'
import { Discovery, type DiscoveryParts } from './discovery.ts'
import { OnDemand } from './on-demand.ts'

/** What a membership leans on. */
export interface MembershipParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Makes a client of the store; may throw. */
  readonly openStore: () => KeyValue
  /** Asks a host that the store has lost sight of. `HostAsker.ask` fits. */
  readonly ask: DiscoveryParts['ask']
}

/** Settings of a membership. */
export interface MembershipSettings {
  readonly host: HostName
  readonly trustDomain: TrustDomain
  readonly stateDirectory: string
  /** Up to so many instances the whole mesh is followed, above them the services in use. */
  readonly wholeMesh: number
}

/** The lease outlives a restart of the control process. */
const leaseTtlMs = 15_000

/** See the header. */
export class Membership {
  readonly link: StoreLink
  readonly discovery: Discovery
  readonly onDemand: OnDemand
  readonly #trustDomain: TrustDomain

  constructor(parts: MembershipParts, settings: MembershipSettings) {
    const { host, trustDomain, stateDirectory, wholeMesh } = settings
    this.#trustDomain = trustDomain
    const onDemand = new OnDemand({ ...parts, store: () => this.link }, { wholeMesh })
    this.onDemand = onDemand
    this.link = new StoreLink(
      { ...parts, scope: onDemand, connect: async () => parts.openStore() },
      { prefix: meshPrefix, leaseTtlMs },
    )
    this.link.onState(({ kind }) => {
      if (kind === 'connected') onDemand.connected()
    })
    const cache = new DiskCache({ stateDirectory, host, trustDomain })
    this.discovery = new Discovery(
      { ...parts, store: this.link, cache, onDemand },
      { host, trustDomain },
    )
  }

  /** Begins to follow the store. */
  start(): void {
    this.onDemand.start()
    this.link.start()
  }

  /** A host is of one mesh for as long as it runs. @throws MeshError `trust-domain-changed` */
  ensure(trustDomain: TrustDomain): void {
    if (trustDomain === this.#trustDomain) return
    throw new MeshError(`this host left ${this.#trustDomain} for ${trustDomain}; starting afresh`, {
      code: 'trust-domain-changed',
      retry: true,
    })
  }

  /** Ends; with `leave` what this host published is withdrawn. */
  async stop({ leave }: { readonly leave: boolean }): Promise<void> {
    this.onDemand.stop()
    await this.link.stop({ withdraw: leave })
    await this.discovery.stop()
  }
}
