/**
 * Owns the snapshot: the frozen view of the mesh at one store revision that workers act on. Plain
 * readonly data: printable, cloneable, cacheable on disk. A new one replaces the old one whole.
 */

import type { ExternalView } from './external.ts'
import type { InstanceLabels } from './instance-labels.ts'
import type { HostName, InstanceId, Port, PortName, ServiceName, TrustDomain } from './names.ts'
import type { ServicePolicy } from './policy.ts'
import type { NamedPort, Protocol } from './records.ts'

/** One instance a caller may pick. */
export interface InstanceView extends InstanceLabels {
  readonly host: HostName
  readonly id: InstanceId
  readonly port: Port
  /** Its ports that have a name. */
  readonly ports?: readonly NamedPort[]
  readonly weight: number
  /** Addresses of its host that lead to the service. */
  readonly intercept?: readonly string[]
  /** What becomes of calls to them while the caller's agent is gone; absent: direct. */
  readonly onAgentDown?: 'deny'
  /** Whether it may be called at its host's address in plain. */
  readonly plain?: true
}

/** A service as callers see it. */
export interface ServiceView {
  readonly name: ServiceName
  /** Of the main port. */
  readonly protocol: Protocol
  /** The ports by name that instances have, or had last. */
  readonly ports?: readonly Pick<NamedPort, 'name' | 'protocol'>[]
  readonly instances: readonly InstanceView[]
}

/** A far host as tunnels see it. */
export interface HostView {
  readonly name: HostName
  /** In its canonical spelling. */
  readonly address: string
  readonly tunnelPort: Port
  /** Who has had this address for longer; absent: nobody, it is this host's. */
  readonly heldBy?: HostName
}

/** An instance on this host, as the inbound side dials it. */
export interface LocalInstance {
  readonly service: ServiceName
  readonly id: InstanceId
  readonly protocol: Protocol
  readonly address: string
  readonly port: Port
  /** Its ports that have a name. */
  readonly ports?: readonly NamedPort[]
  /** A draining instance takes no new streams. */
  readonly draining: boolean
  readonly drainMs: number
  /** How long the service keeps an idle connection, as far as it says so. */
  readonly keepAliveMs?: number
  /** Most requests (HTTP) or connections (TCP) at once; absent for no limit. */
  readonly maxConcurrent?: number
}

/** An explicit listener on this host. */
export interface ListenerView {
  readonly service: ServiceName
  /** The named port it leads to; absent for the main one. */
  readonly portName?: PortName
  readonly port: Port
  /** The manifest that asked for it. */
  readonly file: string
}

/** The whole view; see the header. */
export interface Snapshot {
  /** Store revision it was built from; 0 before the first. */
  readonly revision: number
  /** Grows with every snapshot of this control process. */
  readonly sequence: number
  readonly trustDomain: TrustDomain
  readonly host: HostName
  readonly services: Readonly<Record<string, ServiceView>>
  readonly hosts: Readonly<Record<string, HostView>>
  readonly local: readonly LocalInstance[]
  readonly listeners: readonly ListenerView[]
  /** Services outside the mesh that manifests of this host name. @default none */
  readonly external?: readonly ExternalView[]
  /** Whether services that are not in it may exist: it has those in use here only. @default false */
  readonly onDemand?: boolean
  /** Who may call this host's services; one that is not in it has the default of every service. */
  readonly policies: Readonly<Record<string, ServicePolicy>>
}
