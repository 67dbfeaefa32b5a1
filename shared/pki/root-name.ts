/** Owns how roots are named in reports and metrics, and which root a certificate chains to by name. */

import type { X509Certificate } from 'node:crypto'
import type { RootName } from '#shared/model/trust.ts'
import { certificateHash, splitPem } from './trust.ts'

/** The short name of a root. */
export function rootName(der: Uint8Array): RootName {
  return certificateHash(der).toString('hex').slice(0, 16) as RootName
}

/** A bundle's roots by name. */
export type NamedRoots = ReadonlyMap<RootName, X509Certificate>

/** Names the roots of a bundle; what cannot be read is left out. */
export function nameRoots(bundlePem: string): NamedRoots {
  const roots = splitPem(bundlePem)
  return new Map(roots.ok ? roots.value.map((root) => [rootName(root.raw), root]) : [])
}

/**
 * The root that issued `issuer`, or that it is; null where it is none of these. It tells roots apart
 * and proves nothing: the chain has been verified by OpenSSL.
 */
export function rootOf(issuer: X509Certificate, roots: NamedRoots): RootName | null {
  for (const [name, root] of roots) {
    if (issuer.checkIssued(root) || issuer.raw.equals(root.raw)) return name
  }
  return null
}

/** The root of a chain as PEM, leaf first. */
export function rootOfChain(chainPem: string, roots: NamedRoots): RootName | null {
  const chain = splitPem(chainPem)
  if (!chain.ok) return null
  for (const certificate of chain.value.toReversed()) {
    const root = rootOf(certificate, roots)
    if (root !== null) return root
  }
  return null
}
