/**
 * Owns the targets as the outbound side calls them: snapshot in, endpoints out. An endpoint lives
 * on through snapshots that do not change it, with its load, its luck and its channels.
 */

import { targetsOf, type TargetView } from '#shared/model/service-targets.ts'
import type { InstanceView, LocalInstance, Snapshot } from '#shared/model/snapshot.ts'
import { serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
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

/** The callable services of the newest snapshot. */
export class ServiceTable {
  readonly #parts: MeshEndpointParts
  #services = new Map<string, CallableService>()
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
    const services = new Map<string, CallableService>()
    const endpoints = new Map<string, MeshEndpoint>()
    const local = new Map(snapshot.local.map((instance) => [localKey(instance), instance]))
    for (const view of Object.values(snapshot.services)) {
      const [main, ...named] = targetsOf(view)
      const byPort = new Map<number, CallableService>()
      for (const target of named) {
        const callable = this.#service(target, snapshot, local, endpoints)
        services.set(target.target, callable)
        for (const { port } of target.instances) byPort.set(port, callable)
      }
      if (main === undefined) continue
      const callable = this.#service(main, snapshot, local, endpoints)
      services.set(main.target, byPort.size === 0 ? callable : { ...callable, byPort })
    }
    for (const [key, endpoint] of this.#endpoints) {
      if (!endpoints.has(key)) endpoint.retire()
    }
    this.#services = services
    this.#endpoints = endpoints
  }

  #service(
    view: TargetView,
    snapshot: Snapshot,
    local: ReadonlyMap<string, LocalInstance>,
    all: Map<string, MeshEndpoint>,
  ): CallableService {
    const members: MeshEndpoint[] = []
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
      all.set(key, endpoint)
      members.push(endpoint)
    }
    for (const endpoint of members) endpoint.siblings = members
    return {
      view,
      id: before?.id ?? serviceId(snapshot.trustDomain, service),
      picker: new P2c(members),
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
    case 'far':
      return `${target} ${place.host.name} ${id} ${port} ${place.host.address} ${place.host.tunnelPort}`
  }
}
