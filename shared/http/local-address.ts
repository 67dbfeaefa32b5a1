/** Owns the question whether an address is one of this machine's own, so that nothing is led off it. */

import { isIPv4, isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'

/** Whether an IP address belongs to this machine now: loopback, or one of an interface. */
export function isLocalAddress(address: string): boolean {
  return localAddresses()(address)
}

/** The same for many addresses: the machine is asked when the first one needs it, and only then. */
export function localAddresses(read = ownAddresses): (address: string) => boolean {
  let own: ReadonlySet<string> | null = null
  return (address) => {
    if (isIPv4(address)) return address.startsWith('127.') || (own ??= read()).has(address)
    if (!isIPv6(address)) return false
    const plain = canonical(address)
    return plain === '::1' || (own ??= read()).has(plain)
  }
}

function ownAddresses(): ReadonlySet<string> {
  const entries = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  return new Set(entries.map(({ address }) => (isIPv6(address) ? canonical(address) : address)))
}

/** One spelling for each IPv6 address; one with a scope (`%eth0`) is left as it is. */
function canonical(address: string): string {
  return address.includes('%') ? address : new URL(`http://[${address}]`).hostname.slice(1, -1)
}
