/**
 * Owns the targets as the outbound side calls them: snapshot in, endpoints out. An endpoint lives
 * on through snapshots that do not change it, with its load, its luck and its channels.
 */

import { createHash } from 'node:crypto'
import { targetsOf, type TargetView } from '#shared/model/service-targets.ts'
import type { ExternalView } from '#shared/model/external.ts'
import type { InstanceView, LocalInstance, ServiceView, Snapshot } from '#shared/model/snapshot.ts'
import { externalId, serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import type { TargetName } from '#shared/model/target.ts'
import { ejectionDefaults, slowStartMs } from '#agent/balance/endpoint.ts'
import { P2c } from '#agent/balance/p2c.ts'
import { subsetOf } from '#agent/balance/subset.ts'
import { RetryBudget } from '#agent/balance/retry-budget.ts'
import { MeshEndpoint, type MeshEndpointParts, type Place } from './mesh-endpoint.ts'

/** A target ready to be called. */
export interface CallableService {
  readonly view: TargetView
  /** Of the service, whichever of its ports is called. */
  readonly id: SpiffeId
  readonly picker: P2c<MeshEndpoint>
  readonly budget: RetryBudget
  /** The named ports by their numbers, for callers that name those; null where there are none. */
  readonly byPort: ReadonlyMap<number, CallableService> | null
}

interface Entry extends CallableService {
  /** Of its endpoints, in the order of the picker's. */
  readonly keys: readonly string[]
}

/** A service as it was made of its view, target by target. */
interface Made {
  readonly view: ServiceView
  readonly targets: readonly Entry[]
}

/** The callable services of the newest snapshot. */
export class ServiceTable {
  readonly #parts: MeshEndpointParts
  #snapshot: Snapshot | null = null
  #made = new Map<string, Made>()
  #services = new Map<string, Entry>()
  #endpoints = new Map<string, MeshEndpoint>()

  constructor(parts: MeshEndpointParts) {
    this.#parts = parts
  }

  /** Finds a target, if the mesh knows it. */
  find(target: TargetName): CallableService | null {
    return this.#services.get(target) ?? null
  }

  /** Takes over a snapshot; nothing under way is cut. */
  apply(snapshot: Snapshot): void {
    const services = new Map<string, Entry>()
    const endpoints = new Map<string, MeshEndpoint>()
    const all = new Map<string, Made>()
    const local = new Map(snapshot.local.map((instance) => [localKey(instance), instance]))
    const take = (entry: Entry): void => {
      services.set(entry.view.target, entry)
      entry.keys.forEach((key, index) => {
        const endpoint = entry.picker.endpoints[index]
        if (endpoint !== undefined) endpoints.set(key, endpoint)
      })
    }
    const external = snapshot.external ?? []
    // What this host says is outside does not become another host's by its registering the name.
    const outside = new Set<string>(external.map(({ name }) => name))
    for (const view of Object.values(snapshot.services)) {
      if (outside.has(view.name)) continue
      const made = this.#unchanged(view, snapshot) ?? this.#make(view, snapshot, local)
      all.set(view.name, made)
      for (const entry of made.targets) take(entry)
    }
    for (const view of external) take(this.#external(view, snapshot))
    for (const [key, endpoint] of this.#endpoints) {
      if (!endpoints.has(key)) endpoint.retire()
    }
    this.#snapshot = snapshot
    this.#made = all
    this.#services = services
    this.#endpoints = endpoints
  }

  /** What there was of a service, if nothing it depends on has changed. */
  #unchanged(view: ServiceView, { host, hosts, local }: Snapshot): Made | null {
    const made = this.#made.get(view.name)
    if (made?.view !== view || this.#snapshot?.hosts !== hosts) return null
    const isHere = view.instances.some((instance) => instance.host === host)
    return isHere && this.#snapshot.local !== local ? null : made
  }

  #make(view: ServiceView, snapshot: Snapshot, local: ReadonlyMap<string, LocalInstance>): Made {
    const [main, ...named] = targetsOf(view).map((target) => this.#service(target, snapshot, local))
    if (main === undefined) return { view, targets: [] }
    if (named.length === 0) return { view, targets: [main] }
    const byPort = new Map<number, CallableService>()
    for (const entry of named) {
      for (const { port } of entry.view.instances) byPort.set(port, entry)
    }
    return { view, targets: [...named, byPort.size === 0 ? main : { ...main, byPort }] }
  }

  #external(service: ExternalView, snapshot: Snapshot): Entry {
    const { name, protocol, port } = service
    const before = this.#services.get(name)
    const keys: string[] = []
    const members = service.endpoints.map((one) => {
      const place: Place = { kind: 'external', service, endpoint: one }
      const instance = { host: snapshot.host, id: one.id, port, weight: 1 }
      const key = endpointKey(name, one.id, port, place)
      const settings = { service: name, portName: null, instance, place }
      keys.push(key)
      return (
        this.#endpoints.get(key) ??
        new MeshEndpoint(this.#parts, { ...settings, ejection: ejectionDefaults })
      )
    })
    for (const endpoint of members) endpoint.siblings = members
    const instances = members.map(({ instance }) => instance)
    return {
      view: { target: name, service: name, portName: null, protocol, instances },
      id: externalId(snapshot.trustDomain, name),
      picker: new P2c(members),
      keys,
      budget: before?.budget ?? new RetryBudget(),
      byPort: null,
    }
  }

  #service(view: TargetView, snapshot: Snapshot, local: ReadonlyMap<string, LocalInstance>): Entry {
    const members: MeshEndpoint[] = []
    const keys: string[] = []
    const { service } = view
    const before = this.#services.get(view.target)
    // Where nothing was in use before, there is nobody who could spare a new instance.
    const isJoining = before !== undefined && before.picker.endpoints.length > 0
    const subset = subsetOf(snapshot.host, service, farHostsOf(view, snapshot))
    for (const instance of view.instances) {
      if (subset?.has(instance.host) === false && instance.host !== snapshot.host) continue
      const place = placeOf(view, instance, snapshot, local)
      if (place === null) continue
      const key = endpointKey(view.target, instance.id, instance.port, place)
      let endpoint = this.#endpoints.get(key)
      if (endpoint === undefined) {
        endpoint = new MeshEndpoint(this.#parts, {
          service,
          portName: view.portName,
          instance,
          place,
          ejection: ejectionDefaults,
        })
        if (isJoining) endpoint.warmUntil = this.#parts.clock.elapsed() + slowStartMs
      }
      endpoint.weight = instance.weight
      keys.push(key)
      members.push(endpoint)
    }
    for (const endpoint of members) endpoint.siblings = members
    return {
      view,
      // Once it may have been outside the mesh.
      id: serviceId(snapshot.trustDomain, service),
      picker: new P2c(members),
      keys,
      budget: before?.budget ?? new RetryBudget(),
      byPort: null,
    }
  }
}

/** The other hosts with instances of a service, each once. */
function farHostsOf({ instances }: TargetView, { host, hosts }: Snapshot): readonly string[] {
  const far = new Set<string>()
  for (const instance of instances) {
    if (instance.host !== host && Object.hasOwn(hosts, instance.host)) far.add(instance.host)
  }
  return [...far]
}

function localKey(instance: LocalInstance): string {
  return `${instance.service} ${instance.id}`
}

function placeOf(
  { service, portName, protocol }: TargetView,
  { host, id, port }: InstanceView,
  snapshot: Snapshot,
  local: ReadonlyMap<string, LocalInstance>,
): Place | null {
  if (host === snapshot.host) {
    const instance = local.get(`${service} ${id}`)
    if (instance === undefined || instance.draining) return null
    return {
      kind: 'local',
      instance: portName === null ? instance : { ...instance, port, protocol },
    }
  }
  // A host may be called `constructor`.
  const far = Object.hasOwn(snapshot.hosts, host) ? snapshot.hosts[host] : undefined
  return far === undefined ? null : { kind: 'far', host: far }
}

function endpointKey(target: string, id: string, port: number, place: Place): string {
  switch (place.kind) {
    case 'local':
      return `${target} local ${id} ${place.instance.address} ${place.instance.port}`
    case 'external': {
      const { address, said } = place.endpoint
      return `${target} external ${address} ${port} ${said} ${wayTo(place.service)}`
    }
    case 'far':
      return `${target} ${place.host.name} ${id} ${port} ${place.host.address} ${place.host.tunnelPort}`
  }
}

/** Whatever else an external service says of itself makes its endpoints others. */
function wayTo(view: ExternalView): string {
  let way = ways.get(view)
  if (way === undefined) {
    const { protocol, tls, names, connectTimeoutMs } = view
    const text = JSON.stringify([protocol, tls, names, connectTimeoutMs])
    // It may hold a megabyte of roots, and is asked of every endpoint in every snapshot.
    way = createHash('sha256').update(text).digest('base64')
    ways.set(view, way)
  }
  return way
}

const ways = new WeakMap<ExternalView, string>()
