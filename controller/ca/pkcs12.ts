/**
 * Owns the reading of PKCS#12 files; home of node-forge, which opens the container and decrypts it
 * and is asked for nothing else: keys and certificates come out as DER and are read by Node.
 */

import { X509Certificate, createPrivateKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import forge from 'node-forge'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { CaMaterial } from './foreign-ca.ts'
import { unusable } from './foreign-ca.ts'

const { oids } = forge.pki
const keyBags = [oids['pkcs8ShroudedKeyBag'], oids['keyBag']] as const

/** Reads a file with one P-256 key and its certificates. Throws MeshError `ca-unusable`. */
export async function readPkcs12(file: string, password: string): Promise<CaMaterial> {
  let bags: readonly forge.pkcs12.Bag[]
  try {
    const bytes = (await readFile(file)).toString('binary')
    const container = forge.pkcs12.pkcs12FromAsn1(forge.asn1.fromDer(bytes), password)
    bags = container.safeContents.flatMap(({ safeBags }) => safeBags)
  } catch (error) {
    throw unusable(file, `it is no PKCS#12 file, or the password is wrong (${messageOf(error)})`)
  }
  const keys = bags.filter(({ type }) => keyBags.includes(type)).flatMap((bag) => keyOf(bag) ?? [])
  const [key] = keys
  if (key === undefined || keys.length > 1) {
    throw unusable(file, `it holds ${keys.length} P-256 keys; one is needed`)
  }
  const certificates = bags
    .filter(({ type }) => type === oids['certBag'])
    .flatMap((bag) => certificateOf(bag) ?? [])
  return { key, certificates }
}

/** What forge cannot read, all that is not RSA, it hands on as it stands. */
function keyOf(bag: forge.pkcs12.Bag): KeyObject | null {
  if (bag.asn1 === undefined) return null
  try {
    const key = createPrivateKey({ key: derOf(bag.asn1), format: 'der', type: 'pkcs8' })
    return key.asymmetricKeyDetails?.namedCurve === 'prime256v1' ? key : null
  } catch {
    return null
  }
}

function certificateOf(bag: forge.pkcs12.Bag): X509Certificate | null {
  const asn1 = bag.asn1 ?? (bag.cert === undefined ? null : forge.pki.certificateToAsn1(bag.cert))
  if (asn1 === null) return null
  try {
    return new X509Certificate(derOf(asn1))
  } catch {
    return null
  }
}

function derOf(asn1: forge.asn1.Asn1): Buffer {
  return Buffer.from(forge.asn1.toDer(asn1).getBytes(), 'binary')
}
