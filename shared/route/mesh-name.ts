/** Owns how a request names a service of the mesh: `<service>.mesh`, with or without a port. Pure. */

import { parseServiceName, type Parsed, type ServiceName } from '#shared/model/names.ts'

const suffix = '.mesh'

/**
 * Reads the service out of an authority (RFC 3986 §3.2) such as `orders.mesh` or `Orders.mesh:80`.
 * Host names compare without case; a trailing dot, user information and anything else is refused.
 */
export function serviceOfAuthority(authority: string): Parsed<ServiceName> {
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
  return parseServiceName(host.slice(0, -suffix.length))
}
