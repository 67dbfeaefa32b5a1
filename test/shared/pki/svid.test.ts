/** Holds the strict SVID reading to a table of certificates that are wrong in one way each. */

import * as fc from 'fast-check'
import t from 'tap'
import { must, parseTrustDomain } from '#shared/model/names.ts'
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
