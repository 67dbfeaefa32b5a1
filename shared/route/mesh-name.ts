/**
 * Owns how a request names a target of the mesh: `<service>.mesh` or `<port name>.<service>.mesh`, with
 * or without a port. Pure.
 */

import type { Parsed } from '#shared/model/names.ts'
import { parseTarget, targetName, type TargetName } from '#shared/model/target.ts'

const suffix = '.mesh'

/**
 * Reads the target out of an authority (RFC 3986 §3.2) such as `orders.mesh`, `admin.orders.mesh` or
 * `Orders.mesh:80`. Host names compare without case; a trailing dot, user information and anything else
 * is refused.
 */
export function targetOfAuthority(authority: string): Parsed<TargetName> {
  const colon = authority.indexOf(':')
  const host = (colon < 0 ? authority : authority.slice(0, colon)).toLowerCase()
  if (colon >= 0 && !/^[0-9]{1,5}$/.test(authority.slice(colon + 1))) {
    return { ok: false, problem: `${JSON.stringify(authority)} has no valid port` }
  }
  if (!host.endsWith(suffix)) {
    return {
      ok: false,
      problem: `${JSON.stringify(host)} is not a name of the mesh (<service>.mesh)`,
    }
  }
  const named = parseTarget(host.slice(0, -suffix.length))
  if (!named.ok) return named
  return { ok: true, value: targetName(named.value.service, named.value.portName) }
}

/** The port an authority that was read names; null where it names none. */
export function portOfAuthority(authority: string): number | null {
  const colon = authority.indexOf(':')
  return colon < 0 ? null : Number(authority.slice(colon + 1))
}
