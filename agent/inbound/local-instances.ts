/**
 * Owns the instances of this host as the inbound side reaches them, and the channels kept alive to
 * them: one pool per (instance, peer), so that no connection to a service is ever shared between
 * two callers.
 */

import type { HostName } from '#shared/model/names.ts'
import type { LocalInstance, Snapshot } from '#shared/model/snapshot.ts'
import { serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Channel, Opener } from '#agent/platform.ts'
import type { InstanceLoad, InstanceLoads } from '#agent/balance/instance-loads.ts'
import type { AttemptResult, Upstream } from '#agent/relay/upstream.ts'
import type { ChannelPool } from '#agent/tunnel/channel-pool.ts'
import type { LocalDialler } from '#agent/relay/dial-local.ts'
import type { CompiledPolicy } from '#shared/policy/compiled-policy.ts'
import type { PolicyTable } from '#shared/policy/policy-table.ts'

/** What local instances need. */
export interface LocalInstancesParts {
  readonly local: Pick<LocalDialler, 'dial'>
  readonly makePool: (keepAliveMs: number | undefined) => ChannelPool
  /** Is given each snapshot before the instances are. */
  readonly policies: Pick<PolicyTable, 'of'>
  readonly loads: Pick<InstanceLoads, 'of'>
}

/** From so many peers on, those that keep no channel are forgotten. */
const leastPools = 256

/** One instance of this host and the ways to it. It stays the same while its place changes. */
export class ReachableInstance {
  readonly id: SpiffeId
  readonly host: HostName
  /** What it carries in this worker, and may. */
  readonly load: InstanceLoad
  readonly #parts: LocalInstancesParts
  readonly #pools = new Map<SpiffeId, ChannelPool>()
  #mostPools = leastPools
  #view: LocalInstance
  #policy: CompiledPolicy
  #gone = false

  constructor(
    parts: LocalInstancesParts,
    settings: { readonly view: LocalInstance; readonly id: SpiffeId; readonly host: HostName },
  ) {
    this.#parts = parts
    this.#view = settings.view
    this.#policy = parts.policies.of(settings.view.service)
    this.id = settings.id
    this.host = settings.host
    this.load = parts.loads.of(settings.view.service, settings.view.id)
  }

  /** The instance as the newest snapshot that had it says. */
  get view(): LocalInstance {
    return this.#view
  }

  /** Who may call it; the same object until that changes. */
  get policy(): CompiledPolicy {
    return this.#policy
  }

  /** Whether it has left the view; nothing new goes to it. */
  get gone(): boolean {
    return this.#gone
  }

  /** The way to it for one stream of `peer`: `known`, unless that leads there no more. */
  upstreamFor(peer: SpiffeId, known: LocalUpstream | null = null): LocalUpstream {
    let pool = this.#pools.get(peer)
    if (pool === undefined) {
      this.#prune()
      pool = this.#parts.makePool(this.#view.keepAliveMs)
      this.#pools.set(peer, pool)
    }
    return known?.pool === pool ? known : new LocalUpstream(this, this.#parts, pool)
  }

  /** Takes over what a snapshot says; where it has moved, idle channels go and open ones finish. */
  update(view: LocalInstance): void {
    const stays =
      this.#view.address === view.address &&
      this.#view.port === view.port &&
      this.#view.keepAliveMs === view.keepAliveMs
    this.#view = view
    this.#policy = this.#parts.policies.of(view.service)
    if (!stays) this.#forget()
  }

  /** Out of the view: idle channels go, open ones finish. */
  retire(): void {
    this.#gone = true
    this.#forget()
  }

  #forget(): void {
    for (const pool of this.#pools.values()) pool.close()
    this.#pools.clear()
  }

  /** Whose channels are all in use gets fresh ones after that: it happens to few, and seldom. */
  #prune(): void {
    if (this.#pools.size < this.#mostPools) return
    for (const [peer, pool] of this.#pools) {
      if (pool.idle > 0) continue
      pool.close()
      this.#pools.delete(peer)
    }
    this.#mostPools = Math.max(leastPools, 2 * this.#pools.size)
  }
}

/** A local instance as the relay sees it, for the requests of one stream, one after the other. */
export class LocalUpstream implements Upstream {
  readonly host: HostName
  readonly instance: LocalInstance['id']
  readonly mtls = false
  readonly #view: LocalInstance
  readonly #load: InstanceLoad
  readonly #local: LocalInstancesParts['local']
  /** The channels of all streams of the peer. */
  readonly pool: ChannelPool
  /** Whether the last channel it gave had been kept from before. */
  wasKept = false

  constructor(owner: ReachableInstance, parts: LocalInstancesParts, pool: ChannelPool) {
    this.host = owner.host
    this.instance = owner.view.id
    this.#view = owner.view
    this.#load = owner.load
    this.#local = parts.local
    this.pool = pool
  }

  takeIdle(): Channel | null {
    const channel = this.pool.take()
    this.wasKept = channel !== null
    return channel
  }

  open(opener: Opener): void {
    this.wasKept = false
    this.#local.dial(this.#view.address, this.#view.port, opener)
  }

  release(channel: Channel): void {
    this.pool.release(channel)
  }

  started(): void {
    this.#load.active++
  }

  finished(_result: AttemptResult): void {
    this.#load.active--
  }
}

/** The reachable instances of the newest snapshot. */
export class LocalInstances {
  readonly #parts: LocalInstancesParts
  #instances = new Map<string, ReachableInstance>()

  constructor(parts: LocalInstancesParts) {
    this.#parts = parts
  }

  /** Finds an instance by service and instance id, at a named port or, by an empty name, the main one. */
  find(service: string, id: string, portName = ''): ReachableInstance | null {
    return this.#instances.get(keyOf(service, id, portName)) ?? null
  }

  /** Takes over a snapshot; instances that stay where they are keep their channels. */
  apply(snapshot: Snapshot): void {
    const before = this.#instances
    const after = new Map<string, ReachableInstance>()
    for (const [portName, view] of snapshot.local.flatMap(byPort)) {
      const key = keyOf(view.service, view.id, portName)
      const known = before.get(key)
      known?.update(view)
      after.set(
        key,
        known ??
          new ReachableInstance(this.#parts, {
            view,
            id: serviceId(snapshot.trustDomain, view.service),
            host: snapshot.host,
          }),
      )
    }
    this.#instances = after
    for (const [key, instance] of before) if (!after.has(key)) instance.retire()
  }
}

function keyOf(service: string, id: string, portName: string): string {
  return portName === '' ? `${service} ${id}` : `${service} ${id} ${portName}`
}

/** An instance as it is reached at each of its ports; at the main one also without a name. */
function byPort(instance: LocalInstance): readonly (readonly [string, LocalInstance])[] {
  const { ports = [] } = instance
  return [
    ['', instance],
    ...ports.map(({ name, port, protocol }) => [name, { ...instance, port, protocol }] as const),
  ]
}
