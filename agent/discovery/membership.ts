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
}

/** The lease outlives a restart of the control process. */
const leaseTtlMs = 15_000

/** See the header. */
export class Membership {
  readonly link: StoreLink
  readonly discovery: Discovery
  readonly #trustDomain: TrustDomain

  constructor(parts: MembershipParts, settings: MembershipSettings) {
    const { host, trustDomain, stateDirectory } = settings
    this.#trustDomain = trustDomain
    this.link = new StoreLink(
      { ...parts, connect: async () => parts.openStore() },
      { prefix: meshPrefix, leaseTtlMs },
    )
    const cache = new DiskCache({ stateDirectory, host, trustDomain })
    this.discovery = new Discovery({ ...parts, store: this.link, cache }, { host, trustDomain })
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
    await this.link.stop({ withdraw: leave })
    await this.discovery.stop()
  }
}
