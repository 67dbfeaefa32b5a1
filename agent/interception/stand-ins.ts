/**
 * Owns where connections to virtual IPs go while nobody takes captured ones: to the last known instances
 * that let themselves be called in plain, straight from the kernel. Pure. A service that is locked, whose
 * policy names callers, or that says "onAgentDown": "deny", has none.
 */

import { isNoOutside } from '#shared/model/external.ts'
import { rendezvous } from '#shared/model/rendezvous.ts'
import type { TargetView } from '#shared/model/service-targets.ts'
import type { HostView, InstanceView, Snapshot } from '#shared/model/snapshot.ts'
import type { Endpoint, StandIn } from './capture-state.ts'
import { placesOf, type ClaimFacts, type ClaimingService } from './claims.ts'

/** What they depend on. */
export type StandInFacts = Pick<ClaimFacts, 'locals' | 'snapshot'> & {
  /** Whether this kernel can give connections that leave the host its own address. @default it can */
  readonly masquerades?: boolean
}

/** So many instances of a service are tried in turn: one that ended with the agent fails half of them. */
const most = 2

/** Those of a target at its virtual IPs and ports. */
export function standInsOf(
  { service, target, instances }: TargetView,
  virtual: readonly string[],
  ports: readonly number[],
  facts: StandInFacts,
): readonly StandIn[] {
  const isDenied = ({ onAgentDown }: { readonly onAgentDown?: string }): boolean =>
    onAgentDown === 'deny'
  const local = facts.locals.find((one) => one.service === service)
  // Who says it of one instance says it of the service, also while that one cannot be called.
  const { services } = facts.snapshot
  const all = Object.hasOwn(services, service) ? services[service]?.instances : undefined
  if ([...instances, ...(all ?? [])].some(isDenied) || (local !== undefined && isDenied(local)))
    return []
  const places = instances.flatMap((instance) => placeOf(instance, local, facts) ?? [])
  return virtual.flatMap((address) => {
    const is6 = address.includes(':')
    const to = chosen(
      places.filter((one) => one.address.includes(':') === is6),
      `${facts.snapshot.host} ${target}`,
    )
    return to.length === 0 ? [] : ports.map((port) => ({ address, port, to }))
  })
}

interface Place extends Endpoint {
  /** The instance's, the same as long as it lives. */
  readonly name: string
  readonly isLocal: boolean
}

/** Where an instance is reached in plain from here; null where it is not. */
function placeOf(
  { host, id, port, plain }: InstanceView,
  local: ClaimingService | undefined,
  { snapshot, masquerades = true }: StandInFacts,
): Place | null {
  const name = `${host}/${id}`
  if (host === snapshot.host) {
    // Whoever were let in as nobody would go around the callers that a policy names.
    if (local === undefined || local.inbound === 'strict' || local.isGuarded === true) return null
    const at = placesOf(local).find((one) => one.port === port)
    return at === undefined ? null : { ...at, name, isLocal: true }
  }
  // Nobody could answer a connection that leaves with a virtual IP as its source.
  if (!masquerades) return null
  // A host may be called `constructor`.
  const far = Object.hasOwn(snapshot.hosts, host) ? snapshot.hosts[host] : undefined
  return plain === true && far !== undefined && isItself(far)
    ? { address: far.address, port, name, isLocal: false }
    : null
}

/** Whether an instance of another host may be called in plain. */
export function standsInAfar({
  services,
  host: self,
}: Pick<Snapshot, 'services' | 'host'>): boolean {
  return Object.values(services).some(({ instances }) =>
    instances.some(({ host, plain }) => plain === true && host !== self),
  )
}

/** Whether what another host says is its address leads to another machine, and to no third one's. */
function isItself({ address, heldBy }: HostView): boolean {
  return heldBy === undefined && !isNoOutside(address)
}

/** Which hosts say they are where another one is, in words; empty where none does. */
export function displacedHosts(hosts: Snapshot['hosts']): string {
  const late = Object.values(hosts).filter(
    ({ heldBy, address }) => heldBy !== undefined && !isNoOutside(address),
  )
  if (late.length === 0) return ''
  const some = late
    .slice(0, 3)
    .map(({ name, heldBy, address }) => `${name} at ${address} of ${heldBy}`)
  const more = late.length > some.length ? ` and ${late.length - some.length} more` : ''
  return `nothing leads without the mesh to hosts that say they are where another was before: ${some.join(', ')}${more}`
}

/** The one of this host, or else a few: others from host to host, and the same while they last. */
function chosen(places: readonly Place[], seed: string): readonly Endpoint[] {
  const here = places.filter(({ isLocal }) => isLocal)
  const among = new Map((here.length > 0 ? here : places).map((one) => [one.name, one]))
  return rendezvous(seed, [...among.keys()], most).flatMap((name) => {
    const place = among.get(name)
    return place === undefined ? [] : [{ address: place.address, port: place.port }]
  })
}
