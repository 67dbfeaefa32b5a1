/**
 * Owns the manifest: what a file in the manifest directory says about one local service, after
 * defaults. `shared/schema/manifest.ts` reads it from JSON.
 */

import type { HealthCheck } from './health-check.ts'
import type { InstanceLabels } from './instance-labels.ts'
import type { Port, ServiceName } from './names.ts'
import type { Policy } from './policy.ts'
import type { Protocol } from './records.ts'

/** An explicit listener: calls to this local port go to that service. */
export interface Upstream {
  readonly service: ServiceName
  readonly port: Port
}

/** Who a service is on its host: how the kernel knows its connections from others'. */
export interface RunAs {
  readonly kind: 'user'
  readonly user: string
}

/** What becomes of captured connections to real addresses of a service while the agent is gone. */
export type AgentDownStance = 'direct' | 'deny'

/** What becomes of connections to a service's port that do not come through the mesh. */
export type InboundMode = 'off' | 'permissive' | 'strict'

/** One local service, or, without a port, only the upstreams of a pure caller. */
export interface Manifest extends InstanceLabels {
  /** The file it came from, for error messages. */
  readonly file: string
  /** The local user in whose directory it stands; absent for the administrator's. */
  readonly owner?: string
  readonly service: ServiceName
  /** Absent for a pure caller, which serves nothing. */
  readonly port?: Port
  /** Where the local service listens: an IP address of this host. */
  readonly address: string
  readonly protocol: Protocol
  /** Whether the file itself says the protocol; else what the agent finds counts. */
  readonly declared: boolean
  readonly weight: number
  /** Weight while a check warns. */
  readonly warningWeight: number
  /** At least one. */
  readonly health: readonly HealthCheck[]
  readonly upstreams: readonly Upstream[]
  /** Services it cannot do without, beside its upstreams. */
  readonly requires: readonly ServiceName[]
  /** Who may call it; absent where the manifest says nothing of it. */
  readonly policy?: Policy
  /** Most requests (HTTP) or connections (TCP) it is given at once; absent for no limit. */
  readonly maxConcurrent?: number
  /** Absent: the owner of the listening socket, if that is not root. */
  readonly run?: RunAs
  readonly inbound: InboundMode
  /** Addresses, `ip:port` or `name:port`, that lead to the service through the mesh. */
  readonly intercept: readonly string[]
  readonly onAgentDown: AgentDownStance
  /** How long open connections may live on after the manifest is gone. */
  readonly drainMs: number
}
