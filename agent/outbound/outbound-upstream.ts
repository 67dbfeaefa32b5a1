/**
 * Owns the way one caller's bytes take to one instance: kept-alive channels of that caller alone,
 * new ones through a tunnel, or straight to the instance when it is on this host.
 */

import type { InstanceId, HostName, ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { targetName } from '#shared/model/target.ts'
import type { Channel, Opener } from '#agent/platform.ts'
import type { ChannelPool } from '#agent/tunnel/channel-pool.ts'
import type { Tunnels } from '#agent/tunnel/tunnels.ts'
import type { ExternalDialler } from '#agent/relay/dial-external.ts'
import { outsideNameOf, type OutsideName } from '#agent/relay/outside-name.ts'
import type { LocalDialler } from '#agent/relay/dial-local.ts'
import type { AttemptResult } from '#agent/relay/upstream.ts'
import type { MeshEndpoint, PooledUpstream } from './mesh-endpoint.ts'

/** What an upstream needs. */
export interface OutboundUpstreamParts {
  readonly tunnels: Pick<Tunnels, 'openStream'>
  readonly local: Pick<LocalDialler, 'dial'>
  readonly external: Pick<ExternalDialler, 'dial'>
  readonly pool: ChannelPool
}

/** See the header. */
export class OutboundUpstream implements PooledUpstream {
  readonly host: HostName | null
  readonly instance: InstanceId
  readonly mtls: boolean
  readonly outside?: OutsideName
  readonly #parts: OutboundUpstreamParts
  readonly #endpoint: MeshEndpoint
  readonly #caller: SpiffeId
  readonly #service: ServiceName
  readonly #trustDomain: TrustDomain

  constructor(
    parts: OutboundUpstreamParts,
    settings: {
      readonly endpoint: MeshEndpoint
      readonly caller: SpiffeId
      readonly trustDomain: TrustDomain
    },
  ) {
    this.#parts = parts
    this.#endpoint = settings.endpoint
    this.#caller = settings.caller
    this.#service = settings.endpoint.service
    this.#trustDomain = settings.trustDomain
    const { place, instance } = settings.endpoint
    this.host = place.kind === 'external' ? null : instance.host
    this.instance = instance.id
    this.mtls = place.kind === 'far'
    if (place.kind === 'external') this.outside = outsideNameOf(place.service, place.endpoint)
  }

  takeIdle(): Channel | null {
    return this.#parts.pool.take()
  }

  open(opener: Opener): void {
    const { place, instance, portName } = this.#endpoint
    switch (place.kind) {
      case 'local':
        this.#parts.local.dial(place.instance.address, place.instance.port, opener)
        break
      case 'external':
        this.#parts.external.dial({ ...place.service, endpoint: place.endpoint }, opener)
        break
      case 'far':
        this.#parts.tunnels.openStream(
          {
            caller: this.#caller,
            service: this.#service,
            host: place.host,
            authority: `${instance.id}.${targetName(this.#service, portName)}.mesh:${instance.port}`,
            trustDomain: this.#trustDomain,
          },
          opener,
        )
        break
    }
  }

  release(channel: Channel): void {
    this.#parts.pool.release(channel)
  }

  started(): void {
    this.#endpoint.attempting()
  }

  finished(result: AttemptResult): void {
    this.#endpoint.attempted(result)
  }

  close(): void {
    this.#parts.pool.close()
  }
}
