/**
 * Owns where the instances of a target are, as a snapshot says, and by which words an endpoint is known
 * again in the next one: whatever a call to it depends on. Pure.
 */

import { createHash } from 'node:crypto'
import type { ExternalView } from '#shared/model/external.ts'
import type { TargetView } from '#shared/model/service-targets.ts'
import type { InstanceView, LocalInstance, Snapshot } from '#shared/model/snapshot.ts'
import type { Place } from './mesh-endpoint.ts'

/** The instances of this host, by service and id. */
export type Locals = ReadonlyMap<string, LocalInstance>

/** The instances of this host, to be found. */
export function localsOf({ local }: Snapshot): Locals {
  return new Map(local.map((instance) => [localKey(instance), instance]))
}

/** The other hosts with instances of a service, each once. */
export function farHostsOf(
  { instances }: TargetView,
  { host, hosts }: Snapshot,
): readonly string[] {
  const far = new Set<string>()
  for (const instance of instances) {
    if (instance.host !== host && Object.hasOwn(hosts, instance.host)) far.add(instance.host)
  }
  return [...far]
}

function localKey(instance: LocalInstance): string {
  return `${instance.service} ${instance.id}`
}

/** Where an instance is; null where it is not to be called. */
export function placeOf(
  { service, portName, protocol }: TargetView,
  { host, id, port }: InstanceView,
  snapshot: Snapshot,
  locals: Locals,
): Place | null {
  if (host === snapshot.host) {
    const instance = locals.get(`${service} ${id}`)
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

/** The same for as long as an instance is called in the same way. */
export function endpointKey(target: string, id: string, port: number, place: Place): string {
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
