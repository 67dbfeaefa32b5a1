/**
 * Owns the mesh as the store tells it: the records behind the keys, and the services and hosts that
 * follow from them. Work grows with what changed only. A bad record is rejected alone and the last
 * good one under its key stays. Pure.
 */

import { labelsOf } from '#shared/model/instance-labels.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import type { HostPresence, InstanceRecord } from '#shared/model/records.ts'
import { majorityOf, portsTogether } from '#shared/model/service-targets.ts'
import type { HostView, InstanceView, ServiceView } from '#shared/model/snapshot.ts'
import { decodeMeshEntry } from '#shared/schema/records.ts'
import { deepFreeze } from '#shared/schema/freeze.ts'
import { parseMeshKey } from '#shared/store/keys.ts'

/** Services without any instance that are still known by name. */
const mostEmptyServices = 1000

/** See the header. */
export class Catalog {
  readonly #self: HostName
  /** Every text that was taken, by key, so that unchanged ones are not read again. */
  readonly #texts = new Map<string, string>()
  readonly #problems = new Map<string, string>()
  readonly #instances = new Map<ServiceName, Map<string, InstanceRecord>>()
  readonly #presences = new Map<HostName, HostPresence>()
  /** Hosts by the address they say is theirs, whoever has had it for longest first; this host always is. */
  readonly #holders = new Map<string, readonly HostName[]>()
  /** How many instances a host has of which service: what a host that comes or goes touches. */
  readonly #countsOf = new Map<HostName, Map<ServiceName, number>>()
  readonly #dirtyServices = new Set<ServiceName>()
  readonly #dirtyHosts = new Set<HostName>()
  #hasForgotten = false
  readonly #serviceViews = new Map<ServiceName, ServiceView>()
  readonly #hostViews = new Map<HostName, HostView>()
  #services: Readonly<Record<string, ServiceView>> = Object.freeze({})
  #hosts: Readonly<Record<string, HostView>> = Object.freeze({})
  #own: ReadonlySet<InstanceRecord> = new Set()
  #banned: ReadonlySet<string> = new Set()

  /** What the store says of `self` is left aside: this host knows better. */
  constructor(self: HostName) {
    this.#self = self
  }

  /** What is wrong with which record, by key. */
  get problems(): ReadonlyMap<string, string> {
    return this.#problems
  }

  /** The good text behind each key, for the disk. */
  get texts(): ReadonlyMap<string, string> {
    return this.#texts
  }

  /** How many hosts are present. */
  get hostCount(): number {
    return this.#presences.size
  }

  /** Where a host is and a service it has offered; null where there is no such host or service. */
  placeOf(host: HostName): { readonly view: HostView; readonly service: ServiceName } | null {
    const presence = this.#presences.get(host)
    const [service] = this.#countsOf.get(host)?.keys() ?? []
    if (presence === undefined || service === undefined) return null
    const { address, tunnelPort } = presence
    return { view: { name: host, address, tunnelPort }, service }
  }

  /** What this host offers; replaces what it offered before. */
  setOwn(presence: HostPresence | null, offered: readonly InstanceRecord[]): void {
    // A host may offer a thousand services, of which one has changed: what says the same is the same.
    const before = this.#own
    const own = new Set(offered)
    for (const record of before) if (!own.has(record)) this.#removeInstance(record)
    for (const record of own) if (!before.has(record)) this.#putInstance(record)
    this.#own = own
    this.#setPresence(this.#self, presence)
  }

  /** Whose instances are left aside, whatever the store says. */
  setBanned(hosts: ReadonlySet<string>): void {
    for (const host of this.#banned.symmetricDifference(hosts)) {
      const address = this.#presences.get(host as HostName)?.address ?? ''
      for (const other of this.#holders.get(address) ?? []) this.#dirtyHosts.add(other)
      for (const service of this.#countsOf.get(host as HostName)?.keys() ?? []) {
        this.#dirtyServices.add(service)
      }
    }
    this.#banned = hosts
  }

  /** Takes in what stands under a key now; undefined: nothing. Answers false for a bad record. */
  set(key: string, text: string | undefined): boolean {
    if (text !== undefined && this.#texts.get(key) === text) {
      this.#problems.delete(key)
      return true
    }
    const at = parseMeshKey(key)
    if (!at.ok) {
      if (text === undefined) this.#problems.delete(key)
      else this.#problems.set(key, at.problem)
      return text === undefined
    }
    const { kind } = at.value
    if (kind === 'unknown' || kind === 'trust' || kind === 'host') return true
    if (at.value.host === this.#self) return true
    if (text === undefined) {
      this.#texts.delete(key)
      this.#problems.delete(key)
      if (at.value.kind === 'presence') this.#setPresence(at.value.host, null)
      else this.#removeInstance(at.value)
      return true
    }
    const entry = decodeMeshEntry(key, text)
    if (!entry.ok) {
      this.#problems.set(key, entry.problem)
      return false
    }
    this.#problems.delete(key)
    if (entry.value.kind === 'presence') {
      const { record } = entry.value
      // Whoever moves comes last on the disk, too: its order tells who has had an address for longer.
      if (this.#presences.get(record.host)?.address !== record.address) this.#texts.delete(key)
      this.#setPresence(record.host, record)
    }
    this.#texts.set(key, text)
    if (entry.value.kind === 'instance') this.#putInstance(entry.value.record)
    return true
  }

  /** Takes out what stands under keys that are not followed any more, and the names with it. */
  forget(keys: readonly string[]): void {
    const services = new Set<ServiceName>()
    for (const key of keys) {
      this.set(key, undefined)
      const at = parseMeshKey(key)
      if (at.ok && at.value.kind === 'instance') services.add(at.value.service)
    }
    for (const service of services) {
      if (this.#instances.has(service)) continue
      this.#dirtyServices.delete(service)
      this.#hasForgotten = this.#serviceViews.delete(service) || this.#hasForgotten
    }
  }

  /** The services, each frozen and the same object until it changes; so is the whole. */
  services(): Readonly<Record<string, ServiceView>> {
    let changed = this.#hasForgotten
    this.#hasForgotten = false
    for (const name of this.#dirtyServices) {
      const before = this.#serviceViews.get(name)
      const after = this.#viewOf(name, before)
      if (after === undefined || after === before) continue
      this.#serviceViews.set(name, after)
      changed = true
    }
    this.#dirtyServices.clear()
    if (!changed) return this.#services
    this.#forgetEmpty()
    this.#services = Object.freeze(Object.fromEntries(this.#serviceViews))
    return this.#services
  }

  /** The hosts, each frozen and the same object until it changes; so is the whole. */
  hosts(): Readonly<Record<string, HostView>> {
    let changed = false
    for (const name of this.#dirtyHosts) {
      const before = this.#hostViews.get(name)
      const presence = this.#presences.get(name)
      if (presence === undefined) {
        changed = this.#hostViews.delete(name) || changed
        continue
      }
      const { address, tunnelPort } = presence
      const holders = this.#holders.get(address) ?? []
      const first = holders.find((one) => !this.#banned.has(one)) ?? name
      const isSame = before?.address === address && before.tunnelPort === tunnelPort
      if (isSame && (before.heldBy ?? name) === first) continue
      const held = first === name ? {} : { heldBy: first }
      this.#hostViews.set(name, Object.freeze({ name, address, tunnelPort, ...held }))
      changed = true
    }
    this.#dirtyHosts.clear()
    if (changed) this.#hosts = Object.freeze(Object.fromEntries(this.#hostViews))
    return this.#hosts
  }

  #setPresence(host: HostName, presence: HostPresence | null): void {
    const before = this.#presences.get(host)
    const wasThere = before !== undefined
    if (before?.address !== presence?.address) {
      if (wasThere) this.#release(before.address, host)
      if (presence !== null) this.#hold(presence.address, host)
    }
    if (presence === null) this.#presences.delete(host)
    else this.#presences.set(host, presence)
    this.#dirtyHosts.add(host)
    if (wasThere === (presence !== null)) return
    for (const service of this.#countsOf.get(host)?.keys() ?? []) this.#dirtyServices.add(service)
  }

  #hold(address: string, host: HostName): void {
    const before = this.#holders.get(address) ?? []
    const isOwn = host === this.#self
    this.#holders.set(address, isOwn ? [host, ...before] : [...before, host])
    if (isOwn) for (const other of before) this.#dirtyHosts.add(other)
  }

  #release(address: string, host: HostName): void {
    const before = this.#holders.get(address) ?? []
    const left = before.filter((other) => other !== host)
    if (left.length === 0) this.#holders.delete(address)
    else this.#holders.set(address, left)
    if (before[0] === host) for (const other of left) this.#dirtyHosts.add(other)
  }

  #putInstance(record: InstanceRecord): void {
    const { service, host } = record
    let instances = this.#instances.get(service)
    if (instances === undefined) this.#instances.set(service, (instances = new Map()))
    if (!instances.has(placeOf(record))) this.#count(host, service, 1)
    instances.set(placeOf(record), record)
    this.#dirtyServices.add(service)
  }

  #removeInstance(at: Pick<InstanceRecord, 'service' | 'host' | 'id'>): void {
    const instances = this.#instances.get(at.service)
    if (instances?.delete(placeOf(at)) !== true) return
    if (instances.size === 0) this.#instances.delete(at.service)
    this.#count(at.host, at.service, -1)
    this.#dirtyServices.add(at.service)
  }

  #count(host: HostName, service: ServiceName, change: number): void {
    let counts = this.#countsOf.get(host)
    if (counts === undefined) this.#countsOf.set(host, (counts = new Map()))
    const count = (counts.get(service) ?? 0) + change
    if (count > 0) counts.set(service, count)
    else counts.delete(service)
    if (counts.size === 0) this.#countsOf.delete(host)
  }

  #viewOf(name: ServiceName, before: ServiceView | undefined): ServiceView | undefined {
    const records = [...(this.#instances.get(name)?.values() ?? [])].filter(
      ({ host, state }) => state === 'up' && this.#presences.has(host) && !this.#banned.has(host),
    )
    if (records.length === 0) {
      // Name and protocol are worth keeping: "no instances" tells more than "unknown service".
      const isEmpty = before === undefined || before.instances.length === 0
      return isEmpty ? before : deepFreeze({ ...before, instances: [] })
    }
    const instances = records
      .map((record): InstanceView => {
        const { host, id, port, ports, weight, intercept, onAgentDown, plain } = record
        const addresses = {
          ...(intercept === undefined ? {} : { intercept }),
          ...(onAgentDown === undefined ? {} : { onAgentDown }),
          ...(plain === undefined ? {} : { plain }),
        }
        const named = ports === undefined ? {} : { ports }
        return { host, id, port, ...named, weight, ...addresses, ...labelsOf(record) }
      })
      .sort((a, b) => order(a.host, b.host) || order(a.id, b.id))
    const ports = portsTogether(records.map((record) => record.ports))
    const view: ServiceView = {
      name,
      protocol: majorityOf(records.map(({ protocol }) => protocol)),
      ...(ports.length === 0 ? {} : { ports }),
      instances,
    }
    return JSON.stringify(before) === JSON.stringify(view) ? before : deepFreeze(view)
  }

  #forgetEmpty(): void {
    const empty = [...this.#serviceViews.values()].filter(({ instances }) => instances.length === 0)
    const extra = Math.max(0, empty.length - mostEmptyServices)
    for (const { name } of empty.slice(0, extra)) this.#serviceViews.delete(name)
  }
}

function placeOf({ host, id }: Pick<InstanceRecord, 'host' | 'id'>): string {
  return `${host}/${id}`
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
