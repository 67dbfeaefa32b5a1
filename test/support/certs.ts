/**
 * Owns certificates for tests: a CA with an intermediate, good leaves as credentials, and leaves
 * that are wrong in one chosen way. Fast enough to be made anew in every test file.
 */

import { randomBytes } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { CredentialMessage } from '#agent/workers/messages.ts'
import { must, parseTrustDomain } from '#shared/model/names.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { CryptoKeys } from '#shared/pki/keys.ts'
import { generateKey, keyToPem, toCryptoKeys } from '#shared/pki/keys.ts'
import { certificateToPem, joinPem } from '#shared/pki/trust.ts'
import { x509 } from '#shared/pki/x509.ts'

/** How a leaf differs from a good one. Everything is optional but the id. */
export interface LeafSettings {
  /** The SPIFFE id; any text, so that wrong ones can be made. */
  readonly id: string
  /** @default one, `h1.host.<trust domain>` */
  readonly dnsNames?: readonly string[]
  /** The whole SAN extension value, DER; false leaves the extension out. */
  readonly san?: Buffer | false
  /** Milliseconds from now. @default -60_000 */
  readonly notBeforeInMs?: number
  /** Milliseconds from now. @default 3_600_000 */
  readonly notAfterInMs?: number
  /** Basic constraints' CA flag; null leaves the extension out. @default false */
  readonly ca?: boolean | null
  /** Null leaves the extension out. @default digitalSignature */
  readonly keyUsage?: x509.KeyUsageFlags | null
  /** @default true */
  readonly keyUsageCritical?: boolean
  /** OIDs; null leaves the extension out. @default serverAuth and clientAuth */
  readonly extendedKeyUsage?: readonly string[] | null
  readonly extraExtensions?: readonly x509.Extension[]
  /** @default none */
  readonly commonName?: string
  /** Signs itself instead of by the CA. */
  readonly selfSigned?: boolean
}

/** A leaf with everything a test may want to look at. */
export interface TestLeaf extends CredentialMessage {
  readonly der: Buffer
  readonly key: KeyObject
}

/** A certificate authority of a test. */
export interface TestCa {
  readonly trustDomain: TrustDomain
  /** The root, PEM. */
  readonly bundlePem: string
  readonly rootDer: Buffer
  /** Issues a leaf; its chain holds the intermediate. */
  issue(settings: LeafSettings): Promise<TestLeaf>
}

/** Makes a CA: a root and an intermediate, of the same names each time unless one is given. */
export async function makeTestCa(trustDomain = 'mesh.internal', name = 'test'): Promise<TestCa> {
  const root = await authority(`CN=${name} root`, null)
  const intermediate = await authority(`CN=${name} intermediate`, root)
  return {
    trustDomain: must(parseTrustDomain(trustDomain)),
    bundlePem: certificateToPem(root.der),
    rootDer: root.der,
    issue: (settings) => issueLeaf(intermediate, trustDomain, settings),
  }
}

/** A DER element, for SANs no library would make. */
export function der(tag: number, ...contents: readonly (Buffer | string)[]): Buffer {
  const content = Buffer.concat(
    contents.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)),
  )
  const length =
    content.length < 0x80
      ? [content.length]
      : content.length < 0x100
        ? [0x81, content.length]
        : [0x82, content.length >> 8, content.length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}

interface Authority {
  readonly name: string
  readonly der: Buffer
  readonly keys: CryptoKeys
}

async function authority(name: string, parent: Authority | null): Promise<Authority> {
  const keys = toCryptoKeys(await generateKey())
  const flags = (x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign) as x509.KeyUsageFlags
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: name,
    issuer: parent?.name ?? name,
    notBefore: new Date(Date.now() - 86_400_000),
    notAfter: new Date(Date.now() + 86_400_000),
    publicKey: keys.publicKey,
    signingKey: (parent?.keys ?? keys).privateKey,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(flags, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { name, der: Buffer.from(certificate.rawData), keys }
}

async function issueLeaf(
  issuer: Authority,
  trustDomain: string,
  settings: LeafSettings,
): Promise<TestLeaf> {
  const key = await generateKey()
  const keys = toCryptoKeys(key)
  const notAfterMs = Date.now() + (settings.notAfterInMs ?? 3_600_000)
  const name = settings.commonName === undefined ? '' : `CN=${settings.commonName}`
  const selfSigned = settings.selfSigned === true
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: name,
    issuer: selfSigned ? name : issuer.name,
    notBefore: new Date(Date.now() + (settings.notBeforeInMs ?? -60_000)),
    notAfter: new Date(notAfterMs),
    publicKey: keys.publicKey,
    signingKey: (selfSigned ? keys : issuer.keys).privateKey,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: leafExtensions(trustDomain, settings),
  })
  const leaf = Buffer.from(certificate.rawData)
  return {
    id: settings.id as SpiffeId,
    chainPem: joinPem([
      certificateToPem(leaf),
      ...(selfSigned ? [] : [certificateToPem(issuer.der)]),
    ]),
    keyPem: keyToPem(key),
    notAfterMs: Math.floor(notAfterMs / 1000) * 1000,
    serial: certificate.serialNumber.replace(/^0+(?=.)/, ''),
    der: leaf,
    key,
  }
}

function leafExtensions(trustDomain: string, settings: LeafSettings): x509.Extension[] {
  const extensions: x509.Extension[] = []
  const { ca = false, keyUsage = x509.KeyUsageFlags.digitalSignature, san } = settings
  const { serverAuth, clientAuth } = x509.ExtendedKeyUsage
  const { extendedKeyUsage = [serverAuth, clientAuth] } = settings
  if (ca !== null) extensions.push(new x509.BasicConstraintsExtension(ca, undefined, true))
  if (keyUsage !== null) {
    extensions.push(new x509.KeyUsagesExtension(keyUsage, settings.keyUsageCritical ?? true))
  }
  if (extendedKeyUsage !== null) {
    extensions.push(new x509.ExtendedKeyUsageExtension([...extendedKeyUsage]))
  }
  const names = settings.dnsNames ?? [`h1.host.${trustDomain}`]
  const value = san ?? der(0x30, der(0x86, settings.id), ...names.map((name) => der(0x82, name)))
  if (value !== false) extensions.push(new x509.Extension('2.5.29.17', true, value))
  extensions.push(...(settings.extraExtensions ?? []))
  return extensions
}

function serialNumber(): string {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  return bytes.toString('hex')
}
