/**
 * Owns the records that travel through the store: what a host publishes and what a controller
 * writes. Plain readonly data; `shared/schema` checks it at the border.
 */

import type { InstanceLabels } from './instance-labels.ts'
import type { HostName, InstanceId, Port, PortName, ServiceName } from './names.ts'

/** How bytes of a service are carried: request by request, or as they come. The callee's manifest decides it, never the caller. */
export type Protocol = 'http' | 'tcp'

/** A port of a service that has a name. */
export interface NamedPort {
  readonly name: PortName
  readonly port: Port
  readonly protocol: Protocol
  /** It is there, but not to be called now. */
  readonly down?: true
}

/**
 * One running copy of a service, published by its host under the host's lease. `left` is written
 * just before a deliberate delete, so that a delete nobody announced can be told apart.
 */
export interface InstanceRecord extends InstanceLabels {
  readonly service: ServiceName
  readonly host: HostName
  readonly id: InstanceId
  readonly protocol: Protocol
  /** The port the service listens on; part of the CONNECT authority, dialled only by its own agent. */
  readonly port: Port
  /** Every port that has a name, the main one too if it has one. */
  readonly ports?: readonly NamedPort[]
  /** Relative share of traffic, 1 to 1000. */
  readonly weight: number
  readonly state: 'up' | 'left'
  /** Addresses of its host, `ip:port` or `name:port`, by which programs know the service. */
  readonly intercept?: readonly string[]
  /** What becomes of calls to them while the caller's agent is gone; absent: direct. */
  readonly onAgentDown?: 'deny'
  /** Whoever is without an agent may call it at its host's address, in plain: it is not locked. */
  readonly plain?: true
}

/** Where a host's agent takes tunnels; published by the host under its lease. */
export interface HostPresence {
  readonly host: HostName
  /** IP address other hosts reach this one at. */
  readonly address: string
  readonly tunnelPort: Port
  readonly zone: string
  /** The agent's version, for `meshctl status`. */
  readonly version: string
  /** What the machine says of itself; absent until it was asked. */
  readonly facts?: HostFacts
}

/** Facts of a machine by name, such as `kernel`: for inventories, never for decisions. */
export type HostFacts = Readonly<Record<string, string>>

/** What a host may do; written by controllers only. */
export interface HostRecord {
  readonly host: HostName
  /** Globs (`*` only) of the services the host may speak for. */
  readonly services: readonly string[]
  /** When the host enrolled, RFC 3339. */
  readonly enrolledAt: string
  /**
   * Join tokens it has used, by id, with the end of each in milliseconds since the epoch: a store of
   * before that makes none of them good again.
   */
  readonly usedTokens?: Readonly<Record<string, number>>
}
