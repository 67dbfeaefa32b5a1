/**
 * Owns one instance as the outbound side reaches it: its load and luck, shared by all callers, and
 * one upstream a caller, so that channels are never shared between identities.
 */

import type { PortName, ServiceName } from '#shared/model/names.ts'
import type { ExternalEndpoint, ExternalView } from '#shared/model/external.ts'
import type { HostView, InstanceView, LocalInstance } from '#shared/model/snapshot.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { Endpoint, mayEject, type EjectionSettings } from '#agent/balance/endpoint.ts'
import type { InstanceLoad, InstanceLoads } from '#agent/balance/instance-loads.ts'
import type { Clock } from '#agent/platform.ts'
import type { FarHosts } from './far-hosts.ts'
import type { AttemptResult, Decision, Upstream } from '#agent/relay/upstream.ts'

/** Where the instance is: on this host, behind a far agent, or outside the mesh. */
export type Place =
  | { readonly kind: 'local'; readonly instance: LocalInstance }
  | { readonly kind: 'far'; readonly host: HostView }
  | {
      readonly kind: 'external'
      readonly service: ExternalView
      readonly endpoint: ExternalEndpoint
    }

/** An upstream that can be told to forget its idle channels. */
export interface PooledUpstream extends Upstream {
  close(): void
}

/** Makes the upstream by which one caller reaches an endpoint. */
export type UpstreamMaker = (endpoint: MeshEndpoint, caller: SpiffeId) => PooledUpstream

/** What an endpoint needs. */
export interface MeshEndpointParts {
  readonly clock: Clock
  readonly makeUpstream: UpstreamMaker
  readonly loads: Pick<InstanceLoads, 'of'>
  readonly hosts: Pick<FarHosts, 'lifeOf'>
  /** Told of each ejection. */
  readonly onEjected: (endpoint: MeshEndpoint) => void
}

/** An instance in rotation. */
export class MeshEndpoint extends Endpoint {
  readonly service: ServiceName
  /** The named port it is reached at; null: the main one. */
  readonly portName: PortName | null
  readonly instance: InstanceView
  readonly place: Place
  readonly #make: UpstreamMaker
  readonly #clock: Clock
  readonly #ejection: EjectionSettings
  readonly #onEjected: (endpoint: MeshEndpoint) => void
  /** What it carries and may, where it is on this host; its own agent knows it otherwise. */
  readonly load: InstanceLoad | null
  // Of ten thousand instances most are never called from here: what callers need comes with them.
  #upstreams: Map<SpiffeId, PooledUpstream> | null = null
  #decisions: Map<SpiffeId, Extract<Decision, { kind: 'forward' }>> | null = null
  #alone: readonly MeshEndpoint[] | null = null
  /** Its fellow instances, itself included; replaced with every change of the service. */
  siblings: readonly Endpoint[] = []

  constructor(
    parts: MeshEndpointParts,
    settings: {
      readonly service: ServiceName
      readonly portName: PortName | null
      readonly instance: InstanceView
      readonly place: Place
      readonly ejection: EjectionSettings
    },
  ) {
    super(settings.instance.weight)
    this.#make = parts.makeUpstream
    this.#clock = parts.clock
    this.service = settings.service
    this.portName = settings.portName
    this.instance = settings.instance
    this.place = settings.place
    this.#ejection = settings.ejection
    this.#onEjected = parts.onEjected
    const { service, instance, place } = settings
    this.load = place.kind === 'local' ? parts.loads.of(service, instance.id) : null
    this.host = place.kind === 'far' ? parts.hosts.lifeOf(place.host) : null
  }

  /** The decision that was last made for each caller. */
  get decisions(): Map<SpiffeId, Extract<Decision, { kind: 'forward' }>> {
    return (this.#decisions ??= new Map())
  }

  /** A list of it alone, made once for all requests that try it first. */
  get alone(): readonly MeshEndpoint[] {
    return (this.#alone ??= [this])
  }

  /** Whether it would be given more than it may. */
  get isFull(): boolean {
    return this.load?.isFull === true
  }

  /** An attempt begins. */
  attempting(): void {
    this.active++
    if (this.load !== null) this.load.active++
  }

  /** The upstream by which `caller` reaches this instance. */
  upstreamFor(caller: SpiffeId): Upstream {
    this.#upstreams ??= new Map()
    let upstream = this.#upstreams.get(caller)
    if (upstream === undefined) this.#upstreams.set(caller, (upstream = this.#make(this, caller)))
    return upstream
  }

  /** Counts the end of an attempt and ejects when it was one failure too many. */
  attempted(result: AttemptResult): void {
    this.active--
    if (this.load !== null) this.load.active--
    switch (result) {
      case 'ok':
        this.succeeded()
        break
      case 'connect-failed':
        this.#blame('connect')
        break
      case 'reset':
      case 'server-error':
        this.#blame('error')
        break
      case 'abandoned':
        break
    }
  }

  /** Out of the view: idle channels go, open ones finish. */
  retire(): void {
    for (const upstream of this.#upstreams?.values() ?? []) upstream.close()
    this.#upstreams = null
    this.#decisions = null
  }

  #blame(kind: 'connect' | 'error'): void {
    if (!this.failed(kind, this.#ejection)) return
    const now = this.#clock.elapsed()
    if (this.ejectedUntil > now || !mayEject(this.siblings, now)) return
    this.eject(now, this.#ejection)
    this.#onEjected(this)
  }
}
