/** Holds the strict SVID reading to a table of certificates that are wrong in one way each. */

import * as fc from 'fast-check'
import t from 'tap'
import { must, parseTrustDomain } from '#shared/model/names.ts'
import { readAnySvid, readSvid } from '#shared/pki/svid.ts'
import { x509 } from '#shared/pki/x509.ts'
import { der, makeTestCa } from '#test/support/certs.ts'
import type { LeafSettings } from '#test/support/certs.ts'

const ca = await makeTestCa()
const good = 'spiffe://mesh.internal/service/orders'
const domain = must(parseTrustDomain('mesh.internal'))

const uri = (text: string): Buffer => der(0x86, text)
const dns = (text: string): Buffer => der(0x82, text)
const names = (...all: readonly Buffer[]): Buffer => der(0x30, ...all)
const { KeyUsageFlags: usage, ExtendedKeyUsage: purpose, Extension } = x509
const raw = (oid: string, value: Buffer, critical = false): InstanceType<typeof Extension> =>
  new Extension(oid, critical, value)

t.test('readSvid reads what our CA issues', async (t) => {
  const leaf = await ca.issue({ id: good, dnsNames: ['h1.host.mesh.internal'] })
  t.match(readSvid(leaf.der, domain), {
    ok: true,
    value: {
      id: good,
      dnsNames: ['h1.host.mesh.internal'],
      notAfterMs: leaf.notAfterMs,
      serial: leaf.serial,
    },
  })
})

t.test('readSvid takes a SAN without DNS names, and more key usages than needed', async (t) => {
  const bare = await ca.issue({ id: good, san: names(uri(good)) })
  t.equal(readSvid(bare.der, domain).ok, true)
  const flags = (usage.digitalSignature | usage.keyEncipherment) as x509.KeyUsageFlags
  t.equal(readSvid((await ca.issue({ id: good, keyUsage: flags })).der, domain).ok, true)
})

t.test('readSvid reads years on both sides of 2050', async (t) => {
  const notAfterInMs = Date.UTC(2056, 4, 6, 7, 8, 9) - Date.now()
  const leaf = await ca.issue({ id: good, notAfterInMs })
  const svid = readSvid(leaf.der, domain)
  t.equal(svid.ok && Math.abs(svid.value.notAfterMs - Date.UTC(2056, 4, 6, 7, 8, 9)) <= 1000, true)
})

const td = 'spiffe://mesh.internal'
const label63 = 'a'.repeat(63)

/** Ids in another spelling than the one canonical one. */
const wrongIds: readonly string[] = [
  'spiffe://other.internal/service/orders',
  'spiffe://mesh.internal.evil.com/service/orders',
  'spiffe://evil.mesh.internal/service/orders',
  'spiffe://MESH.internal/service/orders',
  'SPIFFE://mesh.internal/service/orders',
  'Spiffe://mesh.internal/service/orders',
  'https://mesh.internal/service/orders',
  'spiffe:/mesh.internal/service/orders',
  'spiffe:///service/orders',
  '//mesh.internal/service/orders',
  'spiffe://mesh.internal:443/service/orders',
  'spiffe://user@mesh.internal/service/orders',
  'spiffe://mesh.internal./service/orders',
  'spiffe://.mesh.internal/service/orders',
  'spiffe://mesh..internal/service/orders',
  'spiffe://mesh_internal/service/orders',
  'spiffe://mesh.internal\0.evil.com/service/orders',
  td,
  `${td}/`,
  `${td}/service`,
  `${td}/service/`,
  `${td}/service/orders/`,
  `${td}//service/orders`,
  `${td}/service//orders`,
  `${td}/service/orders/extra`,
  `${td}/Service/orders`,
  `${td}/service/Orders`,
  `${td}/service/ORDERS`,
  `${td}/service/%6frders`,
  `${td}/service/orders%00`,
  `${td}/%73ervice/orders`,
  `${td}/service%2forders`,
  `${td}/service/./orders`,
  `${td}/service/../orders`,
  `${td}/service/..`,
  `${td}/service/.`,
  `${td}/service/orders?x=1`,
  `${td}/service/orders#x`,
  `${td}/service/orders,spiffe://mesh.internal/service/carts`,
  `${td}/service/orders\0`,
  `${td}/service/orders\0.evil`,
  `${td}/service/orders\n`,
  `${td}/service/orders `,
  ` ${td}/service/orders`,
  `${td}/service/-orders`,
  `${td}/service/orders-`,
  `${td}/service/or_ders`,
  `${td}/service/or.ders`,
  `${td}/service/örders`,
  `${td}/service/orders\u00ff`,
  `${td}/service/${label63}a`,
  `${td}/users/orders`,
  `${td}/controllers/orders`,
  '',
]

t.test('readSvid refuses every other spelling of an id', async (t) => {
  for (const id of wrongIds) {
    const leaf = await ca.issue({ id })
    const svid = readSvid(leaf.der, domain)
    t.equal(svid.ok, false, JSON.stringify(id))
  }
})

/** Certificates wrong in another way, and a word the problem must name. */
const wrongLeaves: readonly (readonly [string, Partial<LeafSettings>, RegExp])[] = [
  ['no SAN', { san: false }, /alternative name/],
  ['an empty SAN', { san: names() }, /no URI/],
  ['a SAN without a URI', { san: names(dns('orders.mesh.internal')) }, /no URI/],
  ['two URIs', { san: names(uri(good), uri(`${td}/service/carts`)) }, /2 URI/],
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
  ['bytes after the SAN', { san: Buffer.concat([names(uri(good)), Buffer.of(0)]) }, /well-formed/],
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
    { extraExtensions: [raw('2.5.29.17', names(uri(`${td}/service/carts`)))] },
    /twice/,
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

t.test('readSvid refuses every other certificate and says why', async (t) => {
  for (const [what, settings, problem] of wrongLeaves) {
    const leaf = await ca.issue({ id: good, ...settings })
    const svid = readSvid(leaf.der, domain)
    t.match(svid, { ok: false, problem }, what)
  }
})

t.test(
  'readSvid holds the certificate to its own trust domain, readAnySvid does not',
  async (t) => {
    const other = await makeTestCa('other.internal')
    const leaf = await other.issue({ id: 'spiffe://other.internal/controller/c1' })
    t.match(readSvid(leaf.der, domain), { ok: false, problem: /outside the trust domain/ })
    t.match(readAnySvid(leaf.der), {
      ok: true,
      value: { id: 'spiffe://other.internal/controller/c1' },
    })
  },
)

t.test('readSvid refuses a certificate cut short or lengthened anywhere', async (t) => {
  const { der: whole } = await ca.issue({ id: good })
  for (let length = 0; length < whole.length; length++) {
    if (readSvid(whole.subarray(0, length), domain).ok) t.fail(`cut to ${length} bytes`)
  }
  t.equal(readSvid(Buffer.concat([whole, Buffer.of(0)]), domain).ok, false)
  t.equal(readSvid(Buffer.concat([whole, Buffer.alloc(20_000)]), domain).ok, false)
})

t.test('readSvid answers, never throws, on damaged certificates', async () => {
  const { der: whole } = await ca.issue({ id: good })
  const damage = fc.array(fc.record({ at: fc.nat(whole.length - 1), byte: fc.nat(255) }), {
    minLength: 1,
    maxLength: 4,
  })
  fc.assert(
    fc.property(damage, (changes) => {
      const damaged = Buffer.from(whole)
      for (const { at, byte } of changes) damaged[at] = byte
      const svid = readSvid(damaged, domain)
      return !svid.ok || svid.value.id.startsWith(`${td}/`)
    }),
    { seed: 20260101, numRuns: 5000 },
  )
})
