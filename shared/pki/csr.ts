/**
 * Owns certificate signing requests (RFC 2986): making one for a new key, and checking one that
 * arrived. A CSR only proves that the sender holds a key; names in it mean nothing, and one that
 * asks for extensions is refused, so that nobody can mistake a wish for an identity.
 */

import type { KeyObject } from 'node:crypto'
import { createPublicKey, verify } from 'node:crypto'
import type { Parsed } from '#shared/model/names.ts'
import { DerError, childrenOf, expectTag, oidHex, readDer, tags } from './der.ts'
import { toCryptoKeys } from './keys.ts'
import { x509 } from './x509.ts'

const maxBytes = 4096
const attributesTag = 0xa0

/** Signature algorithms a CSR may use, by OID; the value is the digest node:crypto is told. */
const digests: ReadonlyMap<string, string | null> = new Map([
  ['2a8648ce3d040302', 'sha256'], // ecdsa-with-SHA256
  ['2a8648ce3d040303', 'sha384'], // ecdsa-with-SHA384
  ['2a8648ce3d040304', 'sha512'], // ecdsa-with-SHA512
  ['2b6570', null], // Ed25519
])

/** A request for a certificate for `key`, DER. It names nobody, unless a CA elsewhere asks for it. */
export async function makeCsr(key: KeyObject, commonName?: string): Promise<Buffer> {
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    ...(commonName === undefined ? {} : { name: [{ CN: [commonName] }] }),
    keys: toCryptoKeys(key),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
  })
  return Buffer.from(request.rawData)
}

/**
 * Checks a CSR from outside: DER, at most 4 KiB, a P-256 or Ed25519 key, no wishes, and a signature
 * by that very key. Answers the public key.
 */
export function checkCsr(der: Buffer): Parsed<KeyObject> {
  if (der.length > maxBytes) return refuse(`is larger than ${maxBytes} bytes`)
  try {
    return check(der)
  } catch (error) {
    if (error instanceof DerError) return refuse(`is not well-formed: ${error.message}`)
    throw error
  }
}

function refuse(why: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem: `certificate signing request ${why}` }
}

function check(der: Buffer): Parsed<KeyObject> {
  const [info, algorithm, signature, ...more] = childrenOf(
    expectTag(readDer(der), tags.sequence, 'the request'),
  )
  const signed = expectTag(info, tags.sequence, 'the signed part')
  const [version, subject, publicKey, attributes, ...rest] = childrenOf(signed)
  if (more.length > 0 || rest.length > 0) return refuse('has fields that do not belong there')
  if (expectTag(version, tags.integer, 'the version').content.toString('hex') !== '00') {
    return refuse('is not of version 1')
  }
  expectTag(subject, tags.sequence, 'the subject')
  if (attributes !== undefined) {
    expectTag(attributes, attributesTag, 'the attributes')
    if (attributes.content.length > 0) {
      return refuse('asks for names or extensions; send one without attributes')
    }
  }
  const key = readKey(expectTag(publicKey, tags.sequence, 'the public key').raw)
  if (key === null) return refuse('has a key that is neither P-256 nor Ed25519')
  const [oid] = childrenOf(expectTag(algorithm, tags.sequence, 'the signature algorithm'))
  const digest = digests.get(oidHex(oid))
  if (digest === undefined || (digest === null) !== (key.asymmetricKeyType === 'ed25519')) {
    return refuse("is signed with an algorithm that does not fit its key's kind")
  }
  const bits = expectTag(signature, tags.bitString, 'the signature').content
  if (bits[0] !== 0 || !verifies(digest, signed.raw, key, bits.subarray(1))) {
    return refuse('is not signed by the key it holds')
  }
  return { ok: true, value: key }
}

function readKey(spki: Buffer): KeyObject | null {
  try {
    const key = createPublicKey({ key: spki, format: 'der', type: 'spki' })
    const known =
      key.asymmetricKeyType === 'ed25519' || key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
    return known ? key : null
  } catch {
    return null
  }
}

function verifies(digest: string | null, data: Buffer, key: KeyObject, signature: Buffer): boolean {
  try {
    return verify(digest, data, key, signature)
  } catch {
    return false
  }
}
