/**
 * Owns external services: what a manifest says of a service outside the mesh that programs of this host
 * call through it, and how workers see one. Plain data.
 */

import type { InstanceId, Port, ServiceName } from './names.ts'
import type { Protocol } from './records.ts'

/** How the agent itself speaks TLS to an external service. */
export interface ExternalTls {
  /** The name its certificate must be for; absent: the name or address that was dialled. */
  readonly serverName?: string
  /** The roots it must lead to; absent: those of the system. */
  readonly caFile?: string
}

/** The key `external` of a manifest, after defaults. */
export interface External {
  /** IP addresses in their canonical spelling and DNS names, in the order of the file. */
  readonly addresses: readonly string[]
  readonly port: Port
  /** Null: bytes pass as they come, the caller's own TLS too. */
  readonly tls: ExternalTls | null
  readonly connectTimeoutMs: number
}

/** One place where an external service is. */
export interface ExternalEndpoint {
  /** The address as a label: `203-0-113-5`. */
  readonly id: InstanceId
  readonly address: string
  /** The name or address in the manifest that led to it. */
  readonly said: string
}

/** An external service as workers see it. */
export interface ExternalView {
  readonly name: ServiceName
  readonly protocol: Protocol
  readonly port: Port
  readonly endpoints: readonly ExternalEndpoint[]
  /** `caPem` is what stood in the file; absent: the roots of the system. */
  readonly tls: { readonly serverName?: string; readonly caPem?: string } | null
  /** What takes the place of the mesh's own name in requests (RFC 9110 §7.2). */
  readonly authority: string
  readonly connectTimeoutMs: number
  /** Addresses of the world that lead to it through the mesh. */
  readonly intercept: readonly string[]
  readonly onAgentDown: 'direct' | 'deny'
}

/** Whether an address is one that no service outside this host can have. */
export function isNoOutside(address: string): boolean {
  return (
    /^(0|127|169\.254|22[4-9]|2[3-5][0-9])\./.test(address) ||
    /^(::1?$|::ffff:|fe[89ab]|ff)/i.test(address)
  )
}
