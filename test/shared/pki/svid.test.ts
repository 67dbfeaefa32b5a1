/** Holds the strict SVID reading to a table of certificates that are wrong in one way each. */

import * as fc from 'fast-check'
import t from 'tap'
import { must, parseTrustDomain } from '#shared/model/names.ts'
import { childrenOf, readDer, tags } from '#shared/pki/der.ts'
import { readAnySvid, readSvid } from '#shared/pki/svid.ts'
import { x509 } from '#shared/pki/x509.ts'
import { der, makeTestCa } from '#test/support/certs.ts'
import { wrongIds, wrongLeaves } from '#test/support/strangers.ts'

const ca = await makeTestCa()
const good = 'spiffe://mesh.internal/service/orders'
const domain = must(parseTrustDomain('mesh.internal'))

const uri = (text: string): Buffer => der(0x86, text)
const names = (...all: readonly Buffer[]): Buffer => der(0x30, ...all)
const { KeyUsageFlags: usage } = x509

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

t.test('readSvid refuses every other spelling of an id', async (t) => {
  for (const id of wrongIds('service', 'orders')) {
    const leaf = await ca.issue({ id })
    const svid = readSvid(leaf.der, domain)
    t.equal(svid.ok, false, JSON.stringify(id))
  }
})

t.test('readSvid refuses every other certificate and says why', async (t) => {
  for (const [what, settings, problem] of wrongLeaves(good)) {
    const leaf = await ca.issue({ id: good, ...settings })
    const svid = readSvid(leaf.der, domain)
    t.match(svid, { ok: false, problem }, what)
  }
})

/** A certificate put together anew, with other parts; nobody has signed that. */
function rebuilt(
  whole: Buffer,
  change: (parts: { signed: Buffer[]; outer: Buffer[] }) => void,
): Buffer {
  const [signed, ...rest] = childrenOf(readDer(whole))
  if (signed === undefined) throw new TypeError('no certificate')
  const parts = {
    signed: childrenOf(signed).map(({ raw }) => raw),
    outer: rest.map(({ raw }) => raw),
  }
  change(parts)
  return der(tags.sequence, der(tags.sequence, ...parts.signed), ...parts.outer)
}

t.test('readSvid takes nothing that RFC 5280 and DER leave no room for', async (t) => {
  const { der: whole } = await ca.issue({ id: good })
  t.equal(
    readSvid(
      rebuilt(whole, () => {}),
      domain,
    ).ok,
    true,
  )
  /** Version, serial number, algorithm, issuer, validity, subject, key, extensions. */
  const [serialAt, validityAt, blockAt] = [1, 4, 7]
  const time = (text: string): Buffer =>
    der(tags.sequence, der(tags.utcTime, text), der(tags.utcTime, '490101000000Z'))
  const list = (parts: readonly Buffer[]): readonly Buffer[] => {
    const [all] = childrenOf(readDer(parts[blockAt] ?? Buffer.alloc(0)))
    return all === undefined ? [] : childrenOf(all).map(({ raw }) => raw)
  }
  const extension = (...parts: readonly Buffer[]): Buffer =>
    der(tags.sequence, der(tags.oid, Buffer.of(0x2a, 3)), ...parts, der(tags.octetString, 'x'))
  const [yes, no] = [der(tags.boolean, Buffer.of(0xff)), der(tags.boolean, Buffer.of(0))]
  const withMore =
    (more: Buffer) =>
    ({ signed }: { signed: Buffer[] }): void =>
      void (signed[blockAt] = der(0xa3, der(tags.sequence, ...list(signed), more)))
  t.equal(readSvid(rebuilt(whole, withMore(extension())), domain).ok, true, 'what is not critical')
  const cases: readonly (readonly [string, Parameters<typeof rebuilt>[1], RegExp])[] = [
    ['a fourth part', ({ outer }) => outer.push(der(5, '')), /three parts/],
    ['no signature', ({ outer }) => outer.pop(), /three parts/],
    ['a unique identifier', ({ signed }) => signed.splice(blockAt, 0, der(0x81, '\0x')), /missing/],
    [
      'two extension blocks',
      ({ signed }) => signed.push(signed[blockAt] ?? Buffer.alloc(0)),
      /follow the extension block/,
    ],
    ['a padded serial number', ({ signed }) => (signed[serialAt] = der(2, '\0\x01')), /shortest/],
    ['a day of no month', ({ signed }) => (signed[validityAt] = time('260231000000Z')), /calendar/],
    ['an hour of no day', ({ signed }) => (signed[validityAt] = time('260201250000Z')), /calendar/],
    ['a critical extension nobody reads', withMore(extension(yes)), /critical .*\(2a03\)/],
    ['a flag that is the default', withMore(extension(no)), /default/],
  ]
  for (const [what, change, problem] of cases) {
    t.match(readSvid(rebuilt(whole, change), domain), { ok: false, problem }, what)
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
