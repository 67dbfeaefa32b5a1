/** Owns the question whether this process may change the network: root, or whoever has the capability. */

import { readFileSync } from 'node:fs'

/** The bit of CAP_NET_ADMIN, capabilities(7). */
const netAdmin = 12n

/** Whether it has CAP_NET_ADMIN, be it root or not. */
export function mayChangeNetwork(): boolean {
  try {
    const status = readFileSync('/proc/self/status', 'latin1')
    const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`)
    return ((effective >> netAdmin) & 1n) === 1n
  } catch {
    return false
  }
}
