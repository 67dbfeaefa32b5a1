/** Owns how the numbers of services become virtual IPs. Pure; who has which number is kept elsewhere. */

import { createHash } from 'node:crypto'

/** A service's addresses. */
export interface VirtualAddress {
  readonly v4: string
  /** Null where the host has no IPv6. */
  readonly v6: string | null
}

/** How many services can have an address; it is not given to another one within 30 days. */
export const virtualAddressBook = { count: 65_534, quarantineMs: 30 * 86_400_000 } as const

/** The IPv6 range of a mesh's virtual IPs: a unique local prefix (RFC 4193) made of its name. */
export function virtualRange6Of(trustDomain: string): string {
  const digest = createHash('sha256').update(`virtual addresses of ${trustDomain}`).digest('hex')
  const word = (from: number): string =>
    Number.parseInt(digest.slice(from, from + 4), 16).toString(16)
  return `fd${digest.slice(0, 2)}:${word(2)}:${word(6)}::/48`
}

/** The addresses of a number. */
export function virtualAddressAt(index: number, range6: string | null): VirtualAddress {
  const v4 = `240.240.${index >> 8}.${index & 255}`
  const v6 = range6 === null ? null : range6.replace('/48', index.toString(16))
  return { v4, v6 }
}
