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
  /** The certificate, with its chain, and the key by which the agent proves itself; both or neither. */
  readonly certFile?: string
  readonly keyFile?: string
}

/** What stands in those files, in PEM. */
export interface TlsMaterial {
  readonly caPem?: string
  readonly certPem?: string
  readonly keyPem?: string
}

/** The key `external` of a manifest, after defaults. */
export interface External {
  /** IP addresses in their canonical spelling and DNS names, in the order of the file. */
  readonly addresses: readonly string[]
  readonly port: Port
  /** Null: bytes pass as they come, the caller's own TLS too. */
  readonly tls: ExternalTls | null
  readonly connectTimeoutMs: number
  /** Where in the file stands what may turn out to be wrong later, "line:column" by address and file key. */
  readonly places: Readonly<Record<string, string>>
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
  /** Without `caPem` the roots of the system count. */
  readonly tls: (TlsMaterial & { readonly serverName?: string }) | null
  /**
   * Every name its manifest has for it, in lower case. Where the agent speaks TLS, a request is for one of
   * them: what is proven of the far side is proven for no other.
   */
  readonly names: readonly string[]
  readonly connectTimeoutMs: number
  /** Addresses of the world that lead to it through the mesh. */
  readonly intercept: readonly string[]
  readonly onAgentDown: 'direct' | 'deny'
}

/**
 * Whether an address is one that no service outside this host can have: this host, this link, several
 * hosts or nobody. IPv6 in any spelling that the system's resolver answers with or a URL has; one that
 * holds an IPv4 address (RFC 4291 §2.5.5, RFC 6052 §2.1, RFC 3056 §2) is what that is.
 */
export function isNoOutside(address: string): boolean {
  if (!address.includes(':')) return noOutside4.test(address)
  return noOutside6.test(address) || noOutside4.test(within(address.toLowerCase()))
}

const noOutside4 = /^(0|127|169\.254|22[4-9]|2[3-5][0-9])\./
/** `::` with at most two groups behind it: unspecified, loopback, and IPv4 in its clothes. */
const noOutside6 =
  /^(::(ffff:)?([0-9a-f]{0,4}(:[0-9a-f]{1,4})?|[0-9.]+)$|fe[89ab][0-9a-f]:|ff[0-9a-f]{2}:)/i

/** The IPv4 address that an IPv6 one is made of, or ''. */
function within(address: string): string {
  const dotted = /^64:ff9b::(\d+\.\d+\.\d+\.\d+)$/.exec(address)
  if (dotted !== null) return dotted[1] ?? ''
  const pair = /^(?:64:ff9b::|2002:)([0-9a-f]{1,4}):([0-9a-f]{1,4})(?::|$)/.exec(address)
  if (pair === null) return ''
  const bytes = [pair[1], pair[2]].flatMap((word) => {
    const number = Number.parseInt(word ?? '', 16)
    return [number >> 8, number & 255]
  })
  return bytes.join('.')
}

/** Whether an address is of a network that the world does not reach (RFC 1918, RFC 6598, RFC 4193). */
export function isPrivate(address: string): boolean {
  return /^(10\.|192\.168\.|172\.(1[6-9]|2[0-9]|3[01])\.|100\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\.|f[cd][0-9a-f]{2}:)/i.test(
    address,
  )
}
