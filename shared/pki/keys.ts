/**
 * Owns private keys: P-256, made here and written as PKCS#8 PEM. Nothing here reads or writes files.
 */

import type { KeyObject } from 'node:crypto'
import { createPrivateKey, createPublicKey, generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'

const generate = promisify(generateKeyPair)

/** Makes a new P-256 private key. */
export async function generateKey(): Promise<KeyObject> {
  const { privateKey } = await generate('ec', { namedCurve: 'P-256' })
  return privateKey
}

/** A private key as PKCS#8 PEM. */
export function keyToPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' })
}

/** Reads a P-256 private key from PKCS#8 PEM; null when the text is not one. */
export function keyFromPem(pem: string): KeyObject | null {
  try {
    const key = createPrivateKey({ key: pem, format: 'pem' })
    return key.asymmetricKeyDetails?.namedCurve === 'prime256v1' ? key : null
  } catch {
    return null
  }
}

/** The public half of a private key, DER SubjectPublicKeyInfo. */
export function publicKeyDer(privateKey: KeyObject): Buffer {
  return createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
}

/** A pair in WebCrypto's form, which is what the certificate library takes. */
export interface CryptoKeys {
  readonly privateKey: CryptoKey
  readonly publicKey: CryptoKey
}

/** A private key and its public half in WebCrypto's form. */
export function toCryptoKeys(privateKey: KeyObject): CryptoKeys {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' } as const
  return {
    privateKey: privateKey.toCryptoKey(algorithm, false, ['sign']),
    publicKey: createPublicKey(privateKey).toCryptoKey(algorithm, true, ['verify']),
  }
}
