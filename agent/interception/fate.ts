/**
 * Owns the question what becomes of a connection: it walks the elements that stand in the kernel as
 * our rules would, in their order. Pure; `ruleset.ts` is the law it retells.
 */

import { isIPv4 } from 'node:net'
import type { Endpoint, TableShape } from './capture-state.ts'
import type { Elements } from './elements.ts'

/** A connection that somebody may open. */
export interface Attempt extends Endpoint {
  readonly user: number
  /** The group of the unit it comes from, as nft names it; '' where it is of none. */
  readonly unit: string
}

/** What it meets on its way. */
export interface FateFacts {
  readonly standing: Elements
  readonly shape: TableShape
  /** Whether an address is one of this host. */
  readonly isLocal: (address: string) => boolean
  /** Whether an address lies in a range of virtual IPs. */
  readonly isVirtual: (address: string) => boolean
  /** Whether callers that are confined to the registry may go there nevertheless. */
  readonly isLeftAlone: (at: Endpoint) => boolean
}

/** What becomes of it; `virtual` names the service, `port` the caller. */
export type Fate =
  | { readonly kind: 'captured'; readonly virtual: string; readonly port: number }
  | { readonly kind: 'direct'; readonly why: string }
  | { readonly kind: 'refused'; readonly why: string }

/** See the header. */
export function fateOf({ address, port, user, unit }: Attempt, facts: FateFacts): Fate {
  const { standing, shape, isLocal, isVirtual } = facts
  const is4 = isIPv4(address)
  const key = `${address} . ${port}`
  if (standing.exempt_users.has(String(user))) {
    return direct(`user ${user} is excluded from capture (captureExclude.users)`)
  }
  if (user === shape.agentUser && standing[is4 ? 'dialled4' : 'dialled6'].has(key)) {
    return direct('the agent itself reaches a service of this host, or an external one')
  }
  if (standing[is4 ? 'answerers4' : 'answerers6'].has(`${key} . ${user}`)) {
    return direct('the service’s own user reaches its own port')
  }
  const virtual = standing[is4 ? 'destinations4' : 'destinations6'].get(key)
  const ofUnit = standing.unit_callers.get(unit)?.split(' ', 1)[0]
  const to = ofUnit ?? standing.callers.get(String(user)) ?? standing.unknown_callers.get('tcp')
  if (virtual !== undefined && to !== undefined) {
    return { kind: 'captured', virtual, port: Number(to) }
  }
  if (isVirtual(address)) {
    const standIn = standing[is4 ? 'plain4' : 'plain6'].get(key)
    if (standIn !== undefined) {
      return direct(`nobody takes captured connections: it goes in plain to ${standIn}`)
    }
    return { kind: 'refused', why: 'it is a virtual IP, and no service answers there on this port' }
  }
  if (!isLocal(address)) {
    const isConfined =
      standing.confined_units.has(unit) || standing.confined_users.has(String(user))
    const isOpen = standing[is4 ? 'registered4' : 'registered6'].has(key)
    return isConfined && !isOpen && !facts.isLeftAlone({ address, port })
      ? { kind: 'refused', why: 'services here reach only what the mesh knows (egress)' }
      : direct('no service of the mesh is known by this address and port')
  }
  const { first, last } = shape.callerPorts
  if (port >= first && port <= last) {
    return { kind: 'refused', why: 'the port takes only connections that the kernel led there' }
  }
  if (standing.lock_users.has(`${port} . ${user}`)) {
    return direct('the user may reach this port of a service without the mesh')
  }
  if (standing.locked.has(String(port))) {
    return { kind: 'refused', why: 'the port is of a service whose inbound is strict' }
  }
  return standing.plaintext.has(String(port))
    ? direct('the service here is permissive: it passes without the mesh, and is counted')
    : direct('it is an address of this host that no service is known by')
}

function direct(why: string): Fate {
  return { kind: 'direct', why }
}
