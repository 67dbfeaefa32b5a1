/**
 * Owns trust bundles as text: PEM taken apart and put together, and the hash that pins a root.
 * It verifies nothing: chains are OpenSSL's work, through node:tls.
 */

import { X509Certificate, createHash } from 'node:crypto'
import type { Parsed } from '#shared/model/names.ts'

const block = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g
const maxCertificates = 32

/** Takes a PEM bundle or chain apart, in order; text between the blocks is ignored. */
export function splitPem(text: string): Parsed<readonly X509Certificate[]> {
  const blocks = text.match(block) ?? []
  if (blocks.length === 0) return { ok: false, problem: 'no PEM certificate found' }
  if (blocks.length > maxCertificates) {
    return { ok: false, problem: `${blocks.length} certificates, more than ${maxCertificates}` }
  }
  const certificates: X509Certificate[] = []
  for (const [index, pem] of blocks.entries()) {
    try {
      certificates.push(new X509Certificate(pem))
    } catch {
      return { ok: false, problem: `certificate ${index + 1} of ${blocks.length} is damaged` }
    }
  }
  return { ok: true, value: certificates }
}

/** One DER certificate as PEM, with a line end after it. */
export function certificateToPem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

/** PEM texts as one bundle. */
export function joinPem(parts: readonly string[]): string {
  return parts.map((part) => `${part.trim()}\n`).join('')
}

/** SHA-256 of a whole certificate (DER), which pins it. */
export function certificateHash(der: Uint8Array): Buffer {
  return createHash('sha256').update(der).digest()
}
