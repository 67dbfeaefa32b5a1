/**
 * Owns the words of interception: what the kernel is to do with this host's connections, as plain
 * data. How it becomes rules is `ruleset.ts` and `elements.ts`; who decides it is `plan.ts`.
 */

import type { PortRange } from '#shared/model/port-range.ts'
import type { UnitGroup } from './units.ts'

/** The table that holds every rule and set of ours; nothing outside it is touched. */
export const tableName = 'hostmesh'

/** The range virtual IPs of services are taken from. */
export const virtualRange4 = '240.240.0.0/16'

/** What does not change while a table stands; a change of it writes the rules anew. */
export interface TableShape {
  /** Named in the table's comment, so that two agents never share one table. */
  readonly owner: string
  /** The user control process and workers run as. */
  readonly agentUser: number
  /** IPv6 prefix of virtual IPs, with its length; null where the host has no IPv6. */
  readonly virtualRange6: string | null
  /** Where workers listen for the connections of one local caller each, of every generation. */
  readonly callerPorts: PortRange
  /** Whether this kernel tells connections of units apart. */
  readonly tellsUnits: boolean
  /** Whether this kernel can give connections that leave the host its own address. @default it can */
  readonly masquerades?: boolean
  /** Callers are confined to the registry and to this. @default they reach anything */
  readonly confines?: LeftAlone
}

/** An IP address in its canonical spelling, and a TCP port. */
export interface Endpoint {
  readonly address: string
  readonly port: number
}

/** How the kernel knows the connections of a local caller. */
export type CallerMark =
  | { readonly kind: 'user'; readonly user: number }
  | { readonly kind: 'unit'; readonly group: UnitGroup }

/** A caller whose connections arrive at a port of its own. */
export type CallerRule = CallerMark & { readonly port: number }

/** A caller that reaches nothing outside this host but what the registry knows. */
export type ConfinedRule = CallerMark & { readonly service: string }

/** What confined callers may reach, too: it is left alone altogether. */
export interface LeftAlone {
  readonly ports: readonly number[]
  /** `10.0.0.5` or `10.0.0.0/8`. */
  readonly addresses: readonly string[]
}

/** Connections to `address:port` go to the mesh, which knows them by the virtual IP. */
export interface DestinationRule extends Endpoint {
  readonly virtual: string
  /** Whether nobody may go there without the mesh, also while the agent is gone. */
  readonly denied: boolean
}

/** Connections to a virtual IP that nobody takes go to one of these, in plain. */
export interface StandIn extends Endpoint {
  /** One or two. */
  readonly to: readonly Endpoint[]
}

/** A service of this host: only these users may answer at its port. */
export interface AnswerRule extends Endpoint {
  readonly users: readonly number[]
}

/** Who may connect to a port of this host without the mesh. */
export interface LockRule {
  readonly port: number
  /** The agent and the service's own user. */
  readonly users: readonly number[]
  /** Strict refuses everybody else, permissive counts them. */
  readonly mode: 'strict' | 'permissive'
}

/** Everything the kernel is asked to do. */
export interface CaptureState {
  /** Where connections of users who are no known caller arrive; null: no worker takes any. */
  readonly unknownPort: number | null
  readonly callers: readonly CallerRule[]
  readonly destinations: readonly DestinationRule[]
  /** Addresses the agent itself dials on this host: its connections to them are its own. */
  readonly dialled: readonly Endpoint[]
  readonly answers: readonly AnswerRule[]
  readonly locks: readonly LockRule[]
  /** Users whose connections are left alone. */
  readonly exemptUsers: readonly number[]
  readonly confined: readonly ConfinedRule[]
  /** Real addresses of services: confined callers may go there, captured or not. */
  readonly registered: readonly Endpoint[]
  readonly standIns: readonly StandIn[]
}

/** Nothing is captured and nothing locked. */
export const nothing: CaptureState = {
  unknownPort: null,
  callers: [],
  destinations: [],
  dialled: [],
  answers: [],
  locks: [],
  exemptUsers: [],
  confined: [],
  registered: [],
  standIns: [],
}

/** Whether connections are captured. */
export type CaptureStatus =
  | { readonly kind: 'off'; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string; readonly hint: string }
  | { readonly kind: 'waiting'; readonly reason: string }
  /** An operator has switched it off. */
  | { readonly kind: 'lifted'; readonly reason: string }
  | { readonly kind: 'on' }
