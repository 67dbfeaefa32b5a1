/**
 * Owns the targets as the outbound side calls them: snapshot in, endpoints out. Endpoints are made
 * with the first call, and live on through snapshots that do not change them, each with its load, its
 * luck and its channels.
 */

import { targetsOf, type TargetView } from '#shared/model/service-targets.ts'
import type { ExternalView } from '#shared/model/external.ts'
import type { ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { ServiceView, Snapshot } from '#shared/model/snapshot.ts'
import { externalId, serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { serviceOfTarget, type TargetName } from '#shared/model/target.ts'
import { ejectionDefaults, slowStartMs } from '#agent/balance/endpoint.ts'
import { P2c } from '#agent/balance/p2c.ts'
import { subsetOf } from '#agent/balance/subset.ts'
import { RetryBudget } from '#agent/balance/retry-budget.ts'
import { MeshEndpoint, type MeshEndpointParts, type Place } from './mesh-endpoint.ts'
import { endpointKey, farHostsOf, localsOf, placeOf, type Locals } from './places.ts'

/** A target ready to be called. */
export interface CallableService {
  readonly view: TargetView
  /** Of the service, whichever of its ports is called. */
  readonly id: SpiffeId
  readonly picker: P2c<MeshEndpoint>
  readonly budget: RetryBudget
  /** Whether it was called since it was last asked for. */
  readonly use: { isRecent: boolean }
  /** The named ports by their numbers, for callers that name those; null where there are none. */
  readonly byPort: ReadonlyMap<number, CallableService> | null
}

interface Entry extends CallableService {
  /** Of its endpoints, in the order of the picker's. */
  readonly keys: readonly string[]
}

/** A service that has been called, as it was made of its view, target by target. */
interface Made {
  readonly view: ServiceView
  readonly targets: readonly Entry[]
}

/** The callable services of the newest snapshot. */
export class ServiceTable {
  readonly #parts: MeshEndpointParts
  #snapshot: Snapshot | null = null
  /** Instances of this host; null until they are asked for. */
  #locals: Locals | null = null
  /** Those that have been called. */
  readonly #made = new Map<string, Made>()
  #outside = new Map<string, Entry>()
  /** Every target of both. */
  #targets = new Map<string, Entry>()

  constructor(parts: MeshEndpointParts) {
    this.#parts = parts
  }

  /** Of the snapshot; null before the first. */
  get trustDomain(): TrustDomain | null {
    return this.#snapshot?.trustDomain ?? null
  }

  /** The services of the mesh that were called since this was last asked for, or carry calls now. */
  takeUsed(): readonly ServiceName[] {
    const used = new Set<ServiceName>()
    for (const { view, use, picker } of this.#targets.values()) {
      if (use.isRecent || picker.endpoints.some(({ active }) => active > 0)) used.add(view.service)
      use.isRecent = false
    }
    return [...used]
  }

  /** Finds a target, if the mesh knows it. */
  find(target: TargetName): CallableService | null {
    return this.#targets.get(target) ?? this.#firstCall(target)
  }

  /** Takes over a snapshot; nothing under way is cut. */
  apply(snapshot: Snapshot): void {
    const before = this.#snapshot
    this.#snapshot = snapshot
    if (before?.local !== snapshot.local) this.#locals = null
    this.#applyOutside(snapshot)
    for (const [name, made] of this.#made) {
      const view = this.#viewOf(name, snapshot)
      if (view === null) {
        this.#made.delete(name)
        for (const entry of made.targets) retireRest(entry, null)
      } else if (!isUnchanged(made, view, before, snapshot)) {
        this.#made.set(name, this.#make(view, snapshot))
      }
    }
    this.#targets = new Map(this.#outside)
    for (const { targets } of this.#made.values()) this.#show(targets)
  }

  /** Most services of a mesh are never called from here, and cost nothing until they are. */
  #firstCall(target: TargetName): CallableService | null {
    const name = serviceOfTarget(target)
    const snapshot = this.#snapshot
    if (snapshot === null || this.#made.has(name)) return null
    const view = this.#viewOf(name, snapshot)
    if (view === null) return null
    const made = this.#make(view, snapshot)
    this.#made.set(name, made)
    this.#show(made.targets)
    return this.#targets.get(target) ?? null
  }

  /** What this host says is outside does not become another host's by its registering the name. */
  #viewOf(name: string, { services }: Snapshot): ServiceView | null {
    if (this.#outside.has(name) || !Object.hasOwn(services, name)) return null
    return services[name] ?? null
  }

  #show(entries: readonly Entry[]): void {
    for (const entry of entries) this.#targets.set(entry.view.target, entry)
  }

  #applyOutside(snapshot: Snapshot): void {
    const before = this.#outside
    this.#outside = new Map()
    for (const view of snapshot.external ?? []) {
      this.#outside.set(view.name, this.#external(view, snapshot, before.get(view.name)))
    }
    for (const [name, entry] of before) retireRest(entry, this.#outside.get(name) ?? null)
  }

  #make(view: ServiceView, snapshot: Snapshot): Made {
    const locals = (this.#locals ??= localsOf(snapshot))
    const before = new Map(this.#made.get(view.name)?.targets.map((one) => [one.view.target, one]))
    const [main, ...named] = targetsOf(view).map((target) =>
      this.#service(target, snapshot, locals, before.get(target.target)),
    )
    const targets = main === undefined ? named : [...named, withPorts(main, named)]
    const after = new Map(targets.map((one) => [one.view.target, one]))
    for (const [target, entry] of before) retireRest(entry, after.get(target) ?? null)
    return { view, targets }
  }

  #external(service: ExternalView, snapshot: Snapshot, before: Entry | undefined): Entry {
    const { name, protocol, port } = service
    const known = endpointsOf(before)
    const keys: string[] = []
    const members = service.endpoints.map((one) => {
      const place: Place = { kind: 'external', service, endpoint: one }
      const instance = { host: snapshot.host, id: one.id, port, weight: 1 }
      const key = endpointKey(name, one.id, port, place)
      const settings = { service: name, portName: null, instance, place }
      keys.push(key)
      return (
        known.get(key) ?? new MeshEndpoint(this.#parts, { ...settings, ejection: ejectionDefaults })
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
      use: before?.use ?? { isRecent: false },
      byPort: null,
    }
  }

  #service(view: TargetView, snapshot: Snapshot, locals: Locals, before: Entry | undefined): Entry {
    const members: MeshEndpoint[] = []
    const keys: string[] = []
    const { service } = view
    const known = endpointsOf(before)
    // Where nothing was in use before, there is nobody who could spare a new instance.
    const isJoining = before !== undefined && before.picker.endpoints.length > 0
    const subset = subsetOf(snapshot.host, service, farHostsOf(view, snapshot))
    for (const instance of view.instances) {
      if (subset?.has(instance.host) === false && instance.host !== snapshot.host) continue
      const place = placeOf(view, instance, snapshot, locals)
      if (place === null) continue
      const key = endpointKey(view.target, instance.id, instance.port, place)
      let endpoint = known.get(key)
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
      id: serviceId(snapshot.trustDomain, service),
      picker: new P2c(members),
      keys,
      budget: before?.budget ?? new RetryBudget(),
      use: before?.use ?? { isRecent: false },
      byPort: null,
    }
  }
}

/** The main target, with the named ports by their numbers. */
function withPorts(main: Entry, named: readonly Entry[]): Entry {
  const byPort = new Map<number, CallableService>()
  for (const entry of named) {
    for (const { port } of entry.view.instances) byPort.set(port, entry)
  }
  return byPort.size === 0 ? main : { ...main, byPort }
}

/** Whether nothing that a service was made of has changed. */
function isUnchanged(
  made: Made,
  view: ServiceView,
  before: Snapshot | null,
  { host, hosts, local }: Snapshot,
): boolean {
  if (made.view !== view || before?.hosts !== hosts) return false
  return before.local === local || view.instances.every((instance) => instance.host !== host)
}

function endpointsOf(entry: Entry | undefined): ReadonlyMap<string, MeshEndpoint> {
  const { keys = [], picker } = entry ?? {}
  return new Map(picker?.endpoints.map((endpoint, index) => [keys[index] ?? '', endpoint]))
}

/** Retires the endpoints of a target that what replaces it has no longer. */
function retireRest(before: Entry, after: Entry | null): void {
  const kept = new Set(after?.picker.endpoints)
  for (const endpoint of before.picker.endpoints) if (!kept.has(endpoint)) endpoint.retire()
}
