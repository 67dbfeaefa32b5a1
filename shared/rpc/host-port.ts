/** Owns the spelling `host:port` of addresses to connect to or listen on; IPv6 in brackets. */

import { isIPv6 } from 'node:net'
import type { Parsed } from '#shared/model/names.ts'

/** Where to connect or listen. */
export interface HostPort {
  /** A name or an IP address, without brackets. */
  readonly host: string
  /** 0 to 65535; 0 only where a listener may take any. */
  readonly port: number
}

/** Reads `host:port` or `[v6]:port`. */
export function parseHostPort(text: string): Parsed<HostPort> {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text)
  const [, v6, name, digits = ''] = match ?? []
  const port = Number(digits)
  if (match === null || port > 65535 || (v6 !== undefined && !isIPv6(v6))) {
    return { ok: false, problem: `${JSON.stringify(text)} must read host:port or [IPv6]:port` }
  }
  return { ok: true, value: { host: v6 ?? name ?? '', port } }
}

/** Writes it as {@link parseHostPort} reads it. */
export function formatHostPort(host: string, port: number): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`
}
