/** Holds the check of signing requests to a table of bad ones: none is ever accepted. */

import { execFileSync } from 'node:child_process'
import * as fc from 'fast-check'
import t from 'tap'
import { checkCsr, makeCsr } from '#shared/pki/csr.ts'
import { keyToPem, publicKeyDer } from '#shared/pki/keys.ts'
import { badCsrs, ed, ed25519, good, makeByHand, p256 } from '#test/support/bad-csrs.ts'
import { der } from '#test/support/certs.ts'
import { testDirectory } from '#test/support/test-directory.ts'

t.test('checkCsr accepts what makeCsr makes, and answers its key', async (t) => {
  const checked = checkCsr(await makeCsr(p256))
  t.equal(checked.ok, true)
  const found = checked.ok ? checked.value.export({ type: 'spki', format: 'der' }) : null
  t.same(found, publicKeyDer(p256))
})

t.test('checkCsr accepts Ed25519, other digests, and requests by openssl', async (t) => {
  t.equal(checkCsr(makeByHand()).ok, true, 'the recipe itself is good')
  const byEd = makeByHand({
    spki: publicKeyDer(ed25519),
    algorithm: ed,
    digest: null,
    signer: ed25519,
  })
  t.equal(checkCsr(byEd).ok, true)
  const sha512 = der(0x30, der(0x06, Buffer.from('2a8648ce3d040304', 'hex')))
  t.equal(checkCsr(makeByHand({ algorithm: sha512, digest: 'sha512' })).ok, true)
  const directory = testDirectory(t, { 'key.pem': keyToPem(p256) })
  const key = `${directory}/key.pem`
  const args = ['req', '-new', '-key', key, '-subj', '/CN=anybody', '-outform', 'DER']
  const byOpenssl = execFileSync('openssl', args)
  t.equal(checkCsr(byOpenssl).ok, true)
})

t.test('checkCsr refuses every bad request and says why', async (t) => {
  for (const [what, request, problem] of badCsrs)
    t.match(checkCsr(request), { ok: false, problem }, what)
})

t.test('checkCsr accepts no request whose signed bytes were changed', async () => {
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const damaged = Buffer.from(good)
      damaged[at] = (damaged[at] ?? 0) ^ change
      return !checkCsr(damaged).ok
    }),
    { seed: 20260101, numRuns: 1000 },
  )
})
