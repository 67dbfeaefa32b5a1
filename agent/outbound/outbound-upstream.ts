/**
 * Owns the way one caller's bytes take to one instance: kept-alive channels of that caller alone,
 * new ones through a tunnel, or straight to the instance when it is on this host.
 */

import type { InstanceId, HostName, TrustDomain } from '#shared/model/names.ts'
import type { HostView } from '#shared/model/snapshot.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { targetName } from '#shared/model/target.ts'
import type { Channel, Opener } from '#agent/platform.ts'
import type { ChannelPool } from '#agent/tunnel/channel-pool.ts'
import type { StreamTarget, Tunnels } from '#agent/tunnel/tunnels.ts'
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

interface OutboundUpstreamSettings {
  readonly endpoint: MeshEndpoint
  readonly caller: SpiffeId
  readonly trustDomain: TrustDomain
}

/** See the header. */
export class OutboundUpstream implements PooledUpstream {
  readonly host: HostName | null
  readonly instance: InstanceId
  readonly mtls: boolean
  readonly outside?: OutsideName
  readonly #parts: OutboundUpstreamParts
  readonly #endpoint: MeshEndpoint
  /** Whither streams go; null where no tunnel leads. */
  readonly #target: StreamTarget | null

  constructor(parts: OutboundUpstreamParts, settings: OutboundUpstreamSettings) {
    this.#parts = parts
    this.#endpoint = settings.endpoint
    const { place, instance } = settings.endpoint
    this.#target = place.kind === 'far' ? targetOf(settings, place.host) : null
    this.host = place.kind === 'external' ? null : instance.host
    this.instance = instance.id
    this.mtls = place.kind === 'far'
    if (place.kind === 'external') this.outside = outsideNameOf(place.service, place.endpoint)
  }

  takeIdle(): Channel | null {
    return this.#parts.pool.take()
  }

  open(opener: Opener): void {
    const { place } = this.#endpoint
    switch (place.kind) {
      case 'local':
        this.#parts.local.dial(place.instance.address, place.instance.port, opener)
        break
      case 'external':
        this.#parts.external.dial({ ...place.service, endpoint: place.endpoint }, opener)
        break
      case 'far':
        this.#parts.tunnels.openStream(this.#target as StreamTarget, opener)
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

function targetOf(settings: OutboundUpstreamSettings, host: HostView): StreamTarget {
  const { endpoint, caller, trustDomain } = settings
  const { service, instance, portName } = endpoint
  const authority = `${instance.id}.${targetName(service, portName)}.mesh:${instance.port}`
  return { caller, service, host, authority, trustDomain }
}
