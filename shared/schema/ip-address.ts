/** Owns the one spelling of an IP address, and which addresses a host may say are its own. */

import { isIP, SocketAddress } from 'node:net'
import type { Parsed } from '#shared/model/names.ts'

/** As the kernel spells it; null where it is none, or means something on one interface only. */
export function canonicalAddress(text: string): string | null {
  const family = isIP(text)
  if (family === 0 || text.includes('%')) return null
  const { address } = new SocketAddress({ address: text, family: family === 4 ? 'ipv4' : 'ipv6' })
  // IPv4 in the clothes of IPv6 (RFC 4291 §2.5.5.2) is dialled as IPv4.
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1] ?? address
}

/** Nobody, this network, several hosts or all, and the virtual IPs of this mesh. */
const noHost4 = /^(?:0|22[4-9]|23\d|240\.240)\.|^255\.255\.255\.255$/
/** Unspecified, of one link, several hosts. */
const noHost6 = /^(?:::$|fe[89ab][0-9a-f]:|ff[0-9a-f]{2}:)/

/** Reads the address that other hosts reach a host at. */
export function parseHostAddress(text: string): Parsed<string> {
  const address = canonicalAddress(text)
  const isHost = address !== null && !(address.includes(':') ? noHost6 : noHost4).test(address)
  return isHost
    ? { ok: true, value: address }
    : { ok: false, problem: `${JSON.stringify(text)} is not the IP address of one host` }
}
