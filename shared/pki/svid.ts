/**
 * Owns the strict reading of an X.509-SVID (SPIFFE X509-SVID §3 to §5) from a certificate whose
 * chain OpenSSL has already verified. Its own DER reading, never text; anything that our CA would
 * not have issued is refused, so that no second meaning of a certificate is left over.
 */

import type { Parsed, TrustDomain } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import type { DerElement } from './der.ts'
import { DerError, childrenOf, expectTag, oidHex, readBoolean, readDer, tags } from './der.ts'

/** What a leaf proves about its holder. */
export interface Svid {
  readonly id: SpiffeId
  /** DNS SANs, lower case, in the certificate's order. */
  readonly dnsNames: readonly string[]
  /** Milliseconds since the epoch. */
  readonly notBeforeMs: number
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
  /** Lower-case hexadecimal, without leading zeros. */
  readonly serial: string
}

const maxBytes = 16 * 1024

const oids = {
  keyUsage: '551d0f',
  subjectAltName: '551d11',
  basicConstraints: '551d13',
  extendedKeyUsage: '551d25',
  serverAuth: '2b06010505070301',
  clientAuth: '2b06010505070302',
} as const

/** The extensions whose meaning is read here. */
const read: ReadonlySet<string> = new Set([
  oids.keyUsage,
  oids.subjectAltName,
  oids.basicConstraints,
  oids.extendedKeyUsage,
])
const version = 0xa0
const extensionBlock = 0xa3
const dnsNameTag = 0x82
const uriTag = 0x86
const dnsName =
  /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/

/**
 * Reads the identity a chain-verified leaf proves in `trustDomain`. The caller must have had the
 * chain verified by OpenSSL against the trust bundle: this looks at no signature and no clock.
 */
export function readSvid(der: Buffer, trustDomain: TrustDomain): Parsed<Svid> {
  const svid = readAnySvid(der)
  if (!svid.ok) return svid
  return svid.value.id.startsWith(`spiffe://${trustDomain}/`)
    ? svid
    : refuse(`is for ${svid.value.id}, outside the trust domain "${trustDomain}"`)
}

/** As {@link readSvid}, of any trust domain: for whoever trusts one root and nothing beside it. */
export function readAnySvid(der: Buffer): Parsed<Svid> {
  if (der.length > maxBytes) return refuse(`is larger than ${maxBytes} bytes`)
  try {
    return readLeaf(der)
  } catch (error) {
    if (error instanceof DerError) return refuse(`is not well-formed: ${error.message}`)
    throw error
  }
}

interface Extension {
  readonly critical: boolean
  readonly value: Buffer
}

type Extensions = ReadonlyMap<string, Extension>

interface Fields {
  readonly serial: string
  readonly notBeforeMs: number
  readonly notAfterMs: number
  readonly extensions: Extensions
}

function refuse(why: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem: `certificate ${why}` }
}

function readLeaf(der: Buffer): Parsed<Svid> {
  const fields = readFields(der)
  const problem =
    findUnread(fields.extensions) ??
    readBasicConstraints(fields.extensions) ??
    readKeyUsage(fields.extensions) ??
    readExtendedKeyUsage(fields.extensions)
  if (problem !== null) return refuse(problem)
  const names = readNames(fields.extensions)
  if (!names.ok) return names
  const id = parseSpiffeId(names.value.uri)
  if (!id.ok) return refuse(`has an unusable identity: ${id.problem}`)
  const { serial, notBeforeMs, notAfterMs } = fields
  const { dnsNames } = names.value
  return { ok: true, value: { id: id.value, dnsNames, notBeforeMs, notAfterMs, serial } }
}

/** RFC 5280 §4.1: the positions of TBSCertificate's fields. */
function readFields(der: Buffer): Fields {
  const certificate = childrenOf(expectTag(readDer(der), tags.sequence, 'the certificate'))
  if (certificate.length !== 3) throw new DerError('a certificate has three parts')
  const toBeSigned = expectTag(certificate[0], tags.sequence, 'the signed part')
  const [versionField, serial, , , validity, , , block, ...more] = childrenOf(toBeSigned)
  const [v3] = childrenOf(expectTag(versionField, version, 'the version'))
  if (expectTag(v3, tags.integer, 'the version').content.toString('hex') !== '02') {
    throw new DerError('it is not of version 3')
  }
  const [notBefore, notAfter] = childrenOf(expectTag(validity, tags.sequence, 'the validity'))
  // Unique identifiers (§4.1.2.8) would stand before the extensions; no CA may use them.
  const extensions = readExtensions(expectTag(block, extensionBlock, 'the extension block'))
  if (more.length > 0) throw new DerError('bytes follow the extension block')
  return {
    serial: readSerial(expectTag(serial, tags.integer, 'the serial number').content),
    notBeforeMs: readTime(notBefore),
    notAfterMs: readTime(notAfter),
    extensions,
  }
}

function readSerial(content: Buffer): string {
  const [first, second] = content
  if (first === undefined || first >= 0x80 || content.length > 20) {
    throw new DerError('the serial number is empty, negative or too long')
  }
  if (first === 0 && second !== undefined && second < 0x80) {
    throw new DerError('the serial number is not written in its shortest form')
  }
  return content.toString('hex').replace(/^0+(?=.)/, '')
}

/** RFC 5280 §4.1.2.5: both forms in UTC, with seconds, without fractions. */
function readTime(element: DerElement | undefined): number {
  const text = element?.content.toString('latin1') ?? ''
  const match = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text)
  const [, yearText = '', ...rest] = match ?? []
  const expected = yearText.length === 2 ? tags.utcTime : tags.generalizedTime
  if (match === null || element?.tag !== expected) throw new DerError('a time is not in UTC form')
  const [month = 0, day = 0, hour = 0, minute = 0, second = 0] = rest.map(Number)
  const number = Number(yearText)
  const year = yearText.length === 4 ? number : number + (number < 50 ? 2000 : 1900)
  const ms = Date.UTC(year, month - 1, day, hour, minute, second)
  // What no calendar has would be taken for another day.
  const said = `${year}-${rest.slice(0, 2).join('-')}T${rest.slice(2).join(':')}.000Z`
  if (Number.isNaN(ms) || new Date(ms).toISOString() !== said) {
    throw new DerError('a time is in no calendar')
  }
  return ms
}

function readExtensions(block: DerElement): Extensions {
  const [list, ...more] = childrenOf(block)
  if (more.length > 0) throw new DerError('bytes follow the extensions')
  const extensions = new Map<string, Extension>()
  for (const entry of childrenOf(expectTag(list, tags.sequence, 'the list of extensions'))) {
    const [name, second, third, fourth] = childrenOf(
      expectTag(entry, tags.sequence, 'an extension'),
    )
    const flag = third === undefined ? undefined : second
    const value = expectTag(third ?? second, tags.octetString, "an extension's value")
    if (fourth !== undefined) throw new DerError('bytes follow an extension')
    const critical =
      flag !== undefined && readBoolean(expectTag(flag, tags.boolean, 'a critical flag'))
    if (flag !== undefined && !critical) throw new DerError('a default is written out')
    const oid = oidHex(name)
    if (extensions.has(oid)) throw new DerError('an extension stands there twice')
    extensions.set(oid, { critical, value: value.content })
  }
  return extensions
}

/** RFC 5280 §4.2: what is critical and not understood makes a certificate worth nothing. */
function findUnread(extensions: Extensions): string | null {
  for (const [oid, { critical }] of extensions) {
    if (critical && !read.has(oid)) return `has a critical extension that is not read here (${oid})`
  }
  return null
}

function readBasicConstraints(extensions: Extensions): string | null {
  const found = extensions.get(oids.basicConstraints)
  if (found === undefined) return 'does not say whether it is a CA (no basic constraints)'
  const fields = childrenOf(expectTag(readDer(found.value), tags.sequence, 'basic constraints'))
  const [first] = fields
  if (first === undefined) return null
  if (first.tag === tags.boolean && readBoolean(first)) return "is a CA's, not a leaf"
  return 'has basic constraints that no leaf carries'
}

function readKeyUsage(extensions: Extensions): string | null {
  const found = extensions.get(oids.keyUsage)
  if (found === undefined) return 'has no key usage'
  if (!found.critical) return 'has a key usage that is not critical'
  const { content } = expectTag(readDer(found.value), tags.bitString, 'key usage')
  const [unused = 8, bits = 0] = content
  if (content.length < 2 || content.length > 3 || unused > 7) {
    throw new DerError('key usage is no bit string')
  }
  // RFC 5280 §4.2.1.3: digitalSignature is bit 0, keyCertSign bit 5, cRLSign bit 6.
  if ((bits & 0x80) === 0) return 'may not sign (key usage without digitalSignature)'
  if ((bits & 0x06) !== 0) return 'may sign certificates or revocation lists, as no leaf may'
  return null
}

function readExtendedKeyUsage(extensions: Extensions): string | null {
  const found = extensions.get(oids.extendedKeyUsage)
  if (found === undefined) return 'has no extended key usage'
  const list = childrenOf(expectTag(readDer(found.value), tags.sequence, 'extended key usage'))
  const purposes = new Set(list.map((purpose) => oidHex(purpose)))
  if (!purposes.has(oids.serverAuth)) return 'is not for TLS servers (extended key usage)'
  if (!purposes.has(oids.clientAuth)) return 'is not for TLS clients (extended key usage)'
  return null
}

function readNames(
  extensions: Extensions,
): Parsed<{ readonly uri: string; readonly dnsNames: readonly string[] }> {
  const found = extensions.get(oids.subjectAltName)
  if (found === undefined) return refuse('has no subject alternative name')
  const uris: string[] = []
  const dnsNames: string[] = []
  for (const name of childrenOf(expectTag(readDer(found.value), tags.sequence, 'the names'))) {
    const text = name.content.toString('latin1')
    if (name.tag === uriTag) uris.push(text)
    else if (name.tag !== dnsNameTag) {
      return refuse('has an alternative name that is neither a URI nor a DNS name')
    } else if (dnsName.test(text)) dnsNames.push(text)
    else return refuse(`has an unusable DNS name ${JSON.stringify(text.slice(0, 300))}`)
  }
  const [uri, ...others] = uris
  if (uri === undefined) return refuse('has no URI alternative name, so no SPIFFE id')
  if (others.length > 0) return refuse(`has ${uris.length} URI alternative names instead of one`)
  return { ok: true, value: { uri, dnsNames } }
}
