/**
 * Owns certificates that prove nothing: each is right but in one way. Tests run every path on which a
 * peer proves itself over all of them.
 */

import { der, makeTestCa, type LeafSettings, type TestCa, type TestLeaf } from './certs.ts'
import type { IdentityKind } from '#shared/model/spiffe-id.ts'
import { x509 } from '#shared/pki/x509.ts'

/** What is wrong, how to make it, and a word the problem must name. */
export type WrongLeaf = readonly [string, Partial<LeafSettings>, RegExp]

/** One wrong peer, ready to be shown. */
export interface Stranger {
  readonly name: string
  readonly leaf: TestLeaf
}

const td = 'spiffe://mesh.internal'
const label63 = 'a'.repeat(63)
const uri = (text: string): Buffer => der(0x86, text)
const dns = (text: string): Buffer => der(0x82, text)
const names = (...all: readonly Buffer[]): Buffer => der(0x30, ...all)
const { KeyUsageFlags: usage, ExtendedKeyUsage: purpose, Extension } = x509
const raw = (oid: string, value: Buffer, critical = false): InstanceType<typeof Extension> =>
  new Extension(oid, critical, value)

/** Ids in another spelling than the one canonical one. */
export function wrongIds(kind: IdentityKind, name: string): readonly string[] {
  const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)
  const first = `%${kind.charCodeAt(0).toString(16)}${kind.slice(1)}`
  const letter = `%${name.charCodeAt(0).toString(16)}${name.slice(1)}`
  return [
    `spiffe://other.internal/${kind}/${name}`,
    `spiffe://mesh.internal.evil.com/${kind}/${name}`,
    `spiffe://evil.mesh.internal/${kind}/${name}`,
    `spiffe://MESH.internal/${kind}/${name}`,
    `SPIFFE://mesh.internal/${kind}/${name}`,
    `Spiffe://mesh.internal/${kind}/${name}`,
    `https://mesh.internal/${kind}/${name}`,
    `spiffe:/mesh.internal/${kind}/${name}`,
    `spiffe:///${kind}/${name}`,
    `//mesh.internal/${kind}/${name}`,
    `spiffe://mesh.internal:443/${kind}/${name}`,
    `spiffe://user@mesh.internal/${kind}/${name}`,
    `spiffe://mesh.internal./${kind}/${name}`,
    `spiffe://.mesh.internal/${kind}/${name}`,
    `spiffe://mesh..internal/${kind}/${name}`,
    `spiffe://mesh_internal/${kind}/${name}`,
    `spiffe://mesh.internal\0.evil.com/${kind}/${name}`,
    td,
    `${td}/`,
    `${td}/${kind}`,
    `${td}/${kind}/`,
    `${td}/${kind}/${name}/`,
    `${td}//${kind}/${name}`,
    `${td}/${kind}//${name}`,
    `${td}/${kind}/${name}/extra`,
    `${td}/${capital(kind)}/${name}`,
    `${td}/${kind}/${capital(name)}`,
    `${td}/${kind}/${name.toUpperCase()}`,
    `${td}/${kind}/${letter}`,
    `${td}/${kind}/${name}%00`,
    `${td}/${first}/${name}`,
    `${td}/${kind}%2f${name}`,
    `${td}/${kind}/./${name}`,
    `${td}/${kind}/../${name}`,
    `${td}/${kind}/..`,
    `${td}/${kind}/.`,
    `${td}/${kind}/${name}?x=1`,
    `${td}/${kind}/${name}#x`,
    `${td}/${kind}/${name},spiffe://mesh.internal/${kind}/other`,
    `${td}/${kind}/${name}\0`,
    `${td}/${kind}/${name}\0.evil`,
    `${td}/${kind}/${name}\n`,
    `${td}/${kind}/${name} `,
    ` ${td}/${kind}/${name}`,
    `${td}/${kind}/-${name}`,
    `${td}/${kind}/${name}-`,
    `${td}/${kind}/${name}_x`,
    `${td}/${kind}/${name}.x`,
    `${td}/${kind}/ö${name}`,
    `${td}/${kind}/${name}\u00ff`,
    `${td}/${kind}/${label63}a`,
    `${td}/users/${name}`,
    `${td}/controllers/${name}`,
    '',
  ]
}

/** Certificates wrong in another way, and a word the problem must name. */
export function wrongLeaves(good: string): readonly WrongLeaf[] {
  return [
    ['no SAN', { san: false }, /alternative name/],
    ['an empty SAN', { san: names() }, /no URI/],
    ['a SAN without a URI', { san: names(dns('orders.mesh.internal')) }, /no URI/],
    ['two URIs', { san: names(uri(good), uri(`${td}/service/another`)) }, /2 URI/],
    ['the same URI twice', { san: names(uri(good), uri(good)) }, /2 URI/],
    ['an e-mail beside it', { san: names(uri(good), der(0x81, 'a@b.c')) }, /neither/],
    ['an IP address beside it', { san: names(uri(good), der(0x87, '\x7f\0\0\x01')) }, /neither/],
    ['an other name beside it', { san: names(uri(good), der(0xa0, 'x')) }, /neither/],
    ['a directory name beside it', { san: names(uri(good), der(0xa4, der(0x30))) }, /neither/],
    ['a registered id beside it', { san: names(uri(good), der(0x88, '\x2a')) }, /neither/],
    ['the URI as a DNS name', { san: names(dns(good)) }, /unusable DNS/],
    ['the URI as an e-mail', { san: names(der(0x81, good)) }, /neither/],
    ['a constructed URI', { san: names(der(0xa6, uri(good))) }, /neither/],
    [
      'letters beyond ASCII',
      { san: names(uri(Buffer.from(`${good}ı`).toString('latin1'))) },
      /label/,
    ],
    ['a URI of universal type', { san: names(der(0x16, good)) }, /neither/],
    ['a DNS name with a NUL', { san: names(uri(good), dns('h1\0.evil')) }, /unusable DNS/],
    ['a DNS name with a comma', { san: names(uri(good), dns('h1,URI:x')) }, /unusable DNS/],
    ['a DNS name in upper case', { san: names(uri(good), dns('H1.host')) }, /unusable DNS/],
    ['a wildcard DNS name', { san: names(uri(good), dns('*.host')) }, /unusable DNS/],
    ['an empty DNS name', { san: names(uri(good), dns('')) }, /unusable DNS/],
    [
      'bytes after the SAN',
      { san: Buffer.concat([names(uri(good)), Buffer.of(0)]) },
      /well-formed/,
    ],
    ['a SAN cut short', { san: names(uri(good)).subarray(0, -1) }, /well-formed/],
    ['a SAN of no sequence', { san: uri(good) }, /well-formed/],
    [
      'an indefinite length',
      { san: Buffer.concat([Buffer.of(0x30, 0x80), uri(good), Buffer.of(0, 0)]) },
      /well-formed/,
    ],
    [
      'a length in a longer form',
      { san: Buffer.concat([Buffer.of(0x30, 0x81, uri(good).length), uri(good)]) },
      /well-formed/,
    ],
    [
      'a second SAN',
      { extraExtensions: [raw('2.5.29.17', names(uri(`${td}/service/another`)))] },
      /twice/,
    ],
    [
      'a critical extension that nobody reads',
      { extraExtensions: [raw('1.3.6.1.4.1.99999.1', Buffer.of(5, 0), true)] },
      /critical extension/,
    ],
    ['CA:true', { ca: true }, /CA/],
    ['no basic constraints', { ca: null }, /basic constraints/],
    [
      'a path length on a leaf',
      { ca: null, extraExtensions: [raw('2.5.29.19', der(0x30, der(0x02, '\x01')), true)] },
      /basic constraints/,
    ],
    [
      'a CA flag that is neither true nor false',
      { ca: null, extraExtensions: [raw('2.5.29.19', der(0x30, der(0x01, '\x01')), true)] },
      /well-formed/,
    ],
    ['no key usage', { keyUsage: null }, /key usage/],
    ['a key usage that is not critical', { keyUsageCritical: false }, /critical/],
    ['key usage without digitalSignature', { keyUsage: usage.keyEncipherment }, /digitalSig/],
    ['keyCertSign', { keyUsage: usage.digitalSignature | usage.keyCertSign }, /sign certificates/],
    ['cRLSign', { keyUsage: usage.digitalSignature | usage.cRLSign }, /revocation/],
    [
      'an empty key usage',
      { keyUsage: null, extraExtensions: [raw('2.5.29.15', der(0x03, '\0'), true)] },
      /well-formed/,
    ],
    ['no extended key usage', { extendedKeyUsage: null }, /extended key usage/],
    ['only serverAuth', { extendedKeyUsage: [purpose.serverAuth] }, /clients/],
    ['only clientAuth', { extendedKeyUsage: [purpose.clientAuth] }, /servers/],
    ['other purposes', { extendedKeyUsage: [purpose.codeSigning] }, /servers/],
    ['anyExtendedKeyUsage', { extendedKeyUsage: ['2.5.29.37.0'] }, /servers/],
  ]
}

/** Every stranger who would like to be `<kind>/<name>` of mesh.internal, to whom `ca` belongs. */
export async function makeStrangers(
  ca: TestCa,
  kind: IdentityKind,
  name: string,
): Promise<readonly Stranger[]> {
  const id = `${td}/${kind}/${name}`
  const made: Stranger[] = []
  for (const wrong of wrongIds(kind, name)) {
    made.push({ name: `the id ${JSON.stringify(wrong)}`, leaf: await ca.issue({ id: wrong }) })
  }
  for (const [what, settings] of wrongLeaves(id)) {
    made.push({ name: what, leaf: await ca.issue({ id, ...settings }) })
  }
  const good = await ca.issue({ id })
  const impostor = await (await makeTestCa()).issue({ id })
  const pem = (text: string): readonly string[] => text.split(/(?<=-----END CERTIFICATE-----\n)/)
  const [ownLeaf = '', ownIssuer = ''] = pem(good.chainPem)
  const [otherLeaf = '', otherIssuer = ''] = pem(impostor.chainPem)
  const chained = (leaf: TestLeaf, ...chain: readonly string[]): TestLeaf => ({
    ...leaf,
    chainPem: chain.join(''),
  })
  const more: Readonly<Record<string, TestLeaf>> = {
    'an ended certificate': await ca.issue({ id, notBeforeInMs: -9e6, notAfterInMs: -1e6 }),
    'a certificate of tomorrow': await ca.issue({ id, notBeforeInMs: 1e7, notAfterInMs: 2e7 }),
    'a self-signed certificate': await ca.issue({ id, selfSigned: true }),
    'another CA whose names are the same': impostor,
    'another CA with our issuing certificate along': chained(impostor, otherLeaf, ownIssuer),
    'our issuing certificate before another CA’s': chained(
      impostor,
      otherLeaf,
      ownIssuer,
      otherIssuer,
    ),
    'a good certificate without its issuer': chained(good, ownLeaf),
    'a good certificate under another issuer': chained(good, ownLeaf, otherIssuer),
  }
  for (const [what, leaf] of Object.entries(more)) made.push({ name: what, leaf })
  return made
}
