/** Owns the question whether an address is one of this host. */

import { networkInterfaces } from 'node:os'

/** Asks the kernel. */
export function isOwnAddress(address: string): boolean {
  if (address.startsWith('127.')) return true
  return Object.values(networkInterfaces()).some((all) =>
    all?.some((one) => one.address === address),
  )
}
