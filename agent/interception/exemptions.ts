/** Owns what is never captured: SSH, the mesh's own ports, and what the operator excludes. */

import { BlockList, isIP } from 'node:net'
import type { Exemptions } from './claims.ts'

/** Whoever locks themselves out of a host cannot mend it. */
const sshPort = 22

/** What the operator excludes; addresses are known to be good. */
export interface Exclusions {
  readonly ports: readonly number[]
  /** `10.0.0.5` or `10.0.0.0/8`. */
  readonly addresses: readonly string[]
}

/** Puts exclusions and the mesh's own ports together. */
export function exemptionsOf(
  { ports, addresses }: Exclusions,
  ownPorts: readonly number[],
): Exemptions {
  const excluded = new BlockList()
  for (const text of addresses) {
    const [address = '', length] = text.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    if (length === undefined) excluded.addAddress(address, family)
    else excluded.addSubnet(address, Number(length), family)
  }
  return {
    ports: new Set([sshPort, ...ownPorts, ...ports]),
    hasAddress: (address) => excluded.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4'),
  }
}
