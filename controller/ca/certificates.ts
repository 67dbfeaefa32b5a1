/**
 * Owns what our certificates look like: the root, the issuing intermediate, and leaves. Every field
 * is decided here from the order; nothing is copied from a CSR but the key. It stores nothing.
 */

import type { KeyObject } from 'node:crypto'
import { createPublicKey } from 'node:crypto'
import type { Random } from '#shared/lifecycle/clock.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { generateKey, toCryptoKeys } from '#shared/pki/keys.ts'
import { x509 } from '#shared/pki/x509.ts'

/** A CA certificate with its key. */
export interface CaCertificate {
  readonly certificate: InstanceType<typeof x509.X509Certificate>
  readonly key: KeyObject
}

/** A root; without its key where that is kept elsewhere. */
export interface RootCertificate {
  readonly certificate: CaCertificate['certificate']
  readonly key: KeyObject | null
}

/** What a leaf is to say. */
export interface LeafOrder {
  /** Null for what is no member of the mesh: the nodes of a store. */
  readonly id: SpiffeId | null
  /** The first DNS SAN; beside an id, the only one. */
  readonly dnsName: string
  /** Names and addresses a store's node is reached at. */
  readonly addresses?: readonly { readonly type: 'dns' | 'ip'; readonly value: string }[]
  /** The subject's CN, by which etcd knows its users; services and nodes have none. */
  readonly commonName?: string
  readonly publicKey: KeyObject
  readonly ttlMs: number
}

/**
 * The common name of a certificate: the name of its holder's user in etcd. No host can be named so
 * that it comes out as another kind's, nor as etcd's own superuser.
 */
export function commonNameOf(kind: 'host' | 'controller' | 'operator', name: string): string {
  return `${kind}/${name}`
}

/** Lifetimes of the CA's own certificates. */
export const lifetimes = {
  rootMs: 10 * 365 * 86_400_000,
  issuingMs: 365 * 86_400_000,
} as const

/** Clocks of hosts may be behind by this much. */
const skewMs = 60_000
const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' } as const

/** Makes a root for `trustDomain`. */
export async function makeRoot(
  parts: { readonly random: Random },
  settings: { readonly trustDomain: TrustDomain; readonly nowMs: number },
): Promise<CaCertificate> {
  const key = await generateKey()
  return {
    certificate: await makeCa(parts, { ...settings, key: createPublicKey(key) }, { key }),
    key,
  }
}

/** Makes an issuing intermediate under `root`. */
export async function makeIssuing(
  parts: { readonly random: Random; readonly root: CaCertificate },
  settings: { readonly trustDomain: TrustDomain; readonly nowMs: number },
): Promise<CaCertificate> {
  const key = await generateKey()
  const publicKey = createPublicKey(key)
  return { certificate: await certifyIssuing(parts, { ...settings, publicKey }), key }
}

/** Makes the certificate of an issuing intermediate under `root` for somebody else's key. */
export function certifyIssuing(
  parts: { readonly random: Random; readonly root: CaCertificate },
  settings: {
    readonly trustDomain: TrustDomain
    readonly nowMs: number
    readonly publicKey: KeyObject
  },
): Promise<CaCertificate['certificate']> {
  const { publicKey: key, ...rest } = settings
  return makeCa(parts, { ...rest, key }, parts.root)
}

/** Issues a leaf; answers its DER. It ends no later than its issuer. */
export async function makeLeaf(
  parts: { readonly random: Random; readonly issuing: CaCertificate },
  order: LeafOrder,
  nowMs: number,
): Promise<Buffer> {
  const { issuing } = parts
  const publicKey = new x509.PublicKey(order.publicKey.export({ type: 'spki', format: 'der' }))
  const notAfterMs = Math.min(nowMs + order.ttlMs, issuing.certificate.notAfter.getTime())
  const { serverAuth, clientAuth } = x509.ExtendedKeyUsage
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: makeSerial(parts.random),
    subject: order.commonName === undefined ? [] : [{ CN: [order.commonName] }],
    issuer: issuing.certificate.subjectName,
    notBefore: new Date(nowMs - skewMs),
    notAfter: new Date(notAfterMs),
    publicKey,
    signingKey: toCryptoKeys(issuing.key).privateKey,
    signingAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([serverAuth, clientAuth]),
      // RFC 5280 §4.2.1.6: critical where the subject is empty.
      new x509.SubjectAlternativeNameExtension(
        [
          ...(order.id === null ? [] : [{ type: 'url', value: order.id } as const]),
          { type: 'dns', value: order.dnsName },
          ...(order.addresses ?? []),
        ],
        order.commonName === undefined,
      ),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuing.certificate.publicKey),
    ],
  })
  return Buffer.from(certificate.rawData)
}

/** `signer` is the root, or for a root itself its own key alone. */
async function makeCa(
  parts: { readonly random: Random },
  settings: { readonly trustDomain: TrustDomain; readonly nowMs: number; readonly key: KeyObject },
  signer: CaCertificate | { readonly key: KeyObject },
): Promise<CaCertificate['certificate']> {
  const { trustDomain, nowMs } = settings
  const publicKey = new x509.PublicKey(settings.key.export({ type: 'spki', format: 'der' }))
  const root = 'certificate' in signer ? signer : null
  const serialNumber = makeSerial(parts.random)
  const kind = root === null ? 'root' : 'issuing'
  const subject = [
    { O: ['Hostmesh'] },
    { CN: [`${trustDomain} ${kind} ${serialNumber.slice(0, 8)}`] },
  ]
  const endsMs = nowMs + (root === null ? lifetimes.rootMs : lifetimes.issuingMs)
  const flags = x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign
  const authorityKey = root?.certificate.publicKey ?? publicKey
  return x509.X509CertificateGenerator.create({
    serialNumber,
    subject,
    issuer: root?.certificate.subjectName ?? subject,
    notBefore: new Date(nowMs - skewMs),
    notAfter: new Date(Math.min(endsMs, root?.certificate.notAfter.getTime() ?? endsMs)),
    publicKey,
    signingKey: toCryptoKeys(signer.key).privateKey,
    signingAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, root === null ? 1 : 0, true),
      new x509.KeyUsagesExtension(flags, true),
      // SPIFFE X509-SVID §4.1: a signing certificate's id is its trust domain alone.
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${trustDomain}` }]),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(authorityKey),
    ],
  })
}

/** The public half of a CA's key matches its certificate. */
export function keyFits(ca: CaCertificate): boolean {
  const own = createPublicKey(ca.key).export({ type: 'spki', format: 'der' })
  return own.equals(Buffer.from(ca.certificate.publicKey.rawData))
}

/** 128 random bits, positive: a leading zero byte where the first bit is set. */
function makeSerial(random: Random): string {
  const serial = random.bytes(16).toString('hex')
  return serial.startsWith('00') ? makeSerial(random) : serial
}
