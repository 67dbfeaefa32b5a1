/**
 * Owns the name that a request to a service outside the mesh carries. Where the agent speaks TLS, what was
 * proven of the far side holds for the names that the manifest has, and no request is let through for
 * another: whoever may call one tenant of a shared front would otherwise reach all of them. Pure.
 */

import { isIPv6 } from 'node:net'
import type { ExternalEndpoint, ExternalView } from '#shared/model/external.ts'
import { targetOfAuthority } from '#shared/route/mesh-name.ts'

/** How requests may name a service outside. */
export interface OutsideName {
  /** What it knows itself by; takes the place of the mesh's own name (RFC 9110 §7.2). */
  readonly authority: string
  /** In lower case, without ports; null: any, for nothing is proven. */
  readonly names: ReadonlySet<string> | null
}

/** How requests may name it at one of its addresses. */
export function outsideNameOf(
  { tls, port, names }: Pick<ExternalView, 'tls' | 'port' | 'names'>,
  { said }: Pick<ExternalEndpoint, 'said'>,
): OutsideName {
  // In plain every address is the service by its first name; otherwise by the one that is proven there.
  const name = tls === null ? (names[0] ?? said) : (tls.serverName ?? said)
  const host = isIPv6(name) ? `[${name}]` : name
  const authority = port === (tls === null ? 80 : 443) ? host : `${host}:${port}`
  return { authority, names: tls === null ? null : new Set(names) }
}

/** What a request that asked for `asked` carries; null where it may not go there. */
export function authorityOutside(asked: string, { authority, names }: OutsideName): string | null {
  if (asked === '' || targetOfAuthority(asked).ok) return authority
  return names === null || names.has(hostOf(asked)) ? asked : null
}

function hostOf(authority: string): string {
  const [, six, other = ''] = /^(?:\[([^\]]*)\]|([^:]*))(?::[0-9]*)?$/.exec(authority) ?? []
  return (six ?? other.replace(/\.$/, '')).toLowerCase()
}
