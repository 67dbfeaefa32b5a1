/**
 * Owns where connections to virtual IPs go while nobody takes captured ones: to the last known instances
 * that let themselves be called in plain, straight from the kernel. Pure. A service that is locked, or
 * that says "onAgentDown": "deny", has none.
 */

import { isIP, SocketAddress } from 'node:net'
import { isNoOutside } from '#shared/model/external.ts'
import type { TargetView } from '#shared/model/service-targets.ts'
import type { InstanceView } from '#shared/model/snapshot.ts'
import type { Endpoint, StandIn } from './capture-state.ts'
import { placesOf, type ClaimFacts, type ClaimingService } from './claims.ts'

/** What they depend on. */
export type StandInFacts = Pick<ClaimFacts, 'locals' | 'snapshot'>

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

/** Where an instance is reached in plain from here; null where it is not. */
function placeOf(
  { host, port, plain }: InstanceView,
  local: ClaimingService | undefined,
  { snapshot }: StandInFacts,
): (Endpoint & { readonly isLocal: boolean }) | null {
  if (host === snapshot.host) {
    if (local === undefined || local.inbound === 'strict') return null
    const at = placesOf(local).find((one) => one.port === port)
    return at === undefined ? null : { ...at, isLocal: true }
  }
  // A host may be called `constructor`.
  const far = Object.hasOwn(snapshot.hosts, host) ? snapshot.hosts[host] : undefined
  const address = plain === true && far !== undefined ? usable(far.address) : null
  const own = Object.hasOwn(snapshot.hosts, snapshot.host) ? snapshot.hosts[snapshot.host] : null
  return address === null || address === own?.address ? null : { address, port, isLocal: false }
}

/** What another host says of itself as the kernel spells it; null where it cannot be its address. */
function usable(text: string): string | null {
  const family = isIP(text)
  if (family === 0 || text.includes('%')) return null
  const { address } = new SocketAddress({ address: text, family: family === 4 ? 'ipv4' : 'ipv6' })
  return isNoOutside(address) ? null : address
}

/** The one of this host, or else a few: others from host to host, and the same while they last. */
function chosen(
  places: readonly (Endpoint & { readonly isLocal: boolean })[],
  seed: string,
): readonly Endpoint[] {
  const here = places.filter(({ isLocal }) => isLocal)
  const among = here.length > 0 ? here : places
  let first = 0
  for (let index = 0; index < seed.length; index++) {
    first = (Math.imul(first, 31) + seed.charCodeAt(index)) >>> 0
  }
  const count = Math.min(most, among.length)
  return Array.from({ length: count }, (_, n) => among[(first + n) % among.length]).flatMap(
    (one) => (one === undefined ? [] : [{ address: one.address, port: one.port }]),
  )
}
