/**
 * Owns the manifest: what a file in the manifest directory says about one local service, after
 * defaults. `shared/schema/manifest.ts` reads it from JSON.
 */

import type { HealthCheck } from './health-check.ts'
import type { InstanceLabels } from './instance-labels.ts'
import type { External } from './external.ts'
import type { DeclaredProtocol } from './finding.ts'
import type { Port, PortName, ServiceName } from './names.ts'
import type { Policy } from './policy.ts'
import type { NamedPort, Protocol } from './records.ts'

/** An explicit listener: calls to this local port go to that service. */
export interface Upstream {
  readonly service: ServiceName
  /** The named port that is called; absent for the main one. */
  readonly portName?: PortName
  readonly port: Port
}

/** A named port as a manifest gives it. */
export interface ManifestPort extends NamedPort {
  /** What the file says of its protocol; null: what the agent finds counts. */
  readonly declared: DeclaredProtocol | null
}

/** Who a service is on its host: how the kernel knows its connections from others'. */
export type RunAs =
  | { readonly kind: 'user'; readonly user: string }
  /** A unit of systemd, `orders.service`. */
  | { readonly kind: 'unit'; readonly unit: string }

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
  /** The main port, which the service's name alone means. Absent for a pure caller. */
  readonly port?: Port
  /** Every port that has a name, the main one too if it has one. */
  readonly ports: readonly ManifestPort[]
  /** Where the local service listens: an IP address of this host. */
  readonly address: string
  /** How the main port's bytes are carried, unless it is found to speak otherwise. */
  readonly protocol: Protocol
  /** What the file says of the main port's protocol; null: what the agent finds counts. */
  readonly declared: DeclaredProtocol | null
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
  /** Where it is outside the mesh; such a service has no port of this host. */
  readonly external?: External
  /** How long open connections may live on after the manifest is gone. */
  readonly drainMs: number
}

/** A port as the service serves it; the main one goes by no name here, whatever else it is called. */
export interface ServedPort {
  readonly name: PortName | null
  readonly port: Port
  readonly declared: DeclaredProtocol | null
}

/** Every port a service listens on, each once, the main one first. */
export function servedPorts({
  port,
  ports,
  declared,
}: Pick<Manifest, 'port' | 'ports' | 'declared'>): readonly ServedPort[] {
  if (port === undefined) return []
  const others = ports.filter((one) => one.port !== port)
  return [{ name: null, port, declared }, ...others]
}

/** The name a port goes by among `servedPorts`: null for the main one. */
export function servedName(
  { port, ports }: { readonly port?: Port | undefined; readonly ports: readonly NamedPort[] },
  name: PortName,
): PortName | null {
  return ports.find((one) => one.name === name)?.port === port ? null : name
}
