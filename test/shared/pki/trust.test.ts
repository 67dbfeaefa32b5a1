/** Holds bundles as text to what OpenSSL reads in them. */

import { X509Certificate, createHash } from 'node:crypto'
import t from 'tap'
import { certificateHash, certificateToPem, joinPem, splitPem } from '#shared/pki/trust.ts'
import { makeTestCa } from '#test/support/certs.ts'

const [one, two] = [await makeTestCa(), await makeTestCa()]

t.test('splitPem takes apart what joinPem put together, in order', async (t) => {
  const joined = joinPem([one.bundlePem, `# a remark\n${two.bundlePem.trim()}`])
  const parts = splitPem(joined)
  t.same(parts.ok && parts.value.map(({ raw }) => raw.toString('hex')), [
    one.rootDer.toString('hex'),
    two.rootDer.toString('hex'),
  ])
})

t.test('certificateToPem writes what OpenSSL reads', async (t) => {
  t.same(new X509Certificate(certificateToPem(one.rootDer)).raw, one.rootDer)
})

t.test('splitPem refuses nothing, damage and too many', async (t) => {
  t.match(splitPem(''), { ok: false, problem: /no PEM/ })
  t.match(splitPem('-----BEGIN PRIVATE KEY-----'), { ok: false, problem: /no PEM/ })
  const damaged = one.bundlePem.replace('MII', 'MIX')
  t.match(splitPem(joinPem([two.bundlePem, damaged])), { ok: false, problem: /certificate 2 of 2/ })
  t.match(splitPem(one.bundlePem.repeat(33)), { ok: false, problem: /more than 32/ })
})

t.test('certificateHash is the SHA-256 fingerprint', async (t) => {
  t.same(certificateHash(one.rootDer), createHash('sha256').update(one.rootDer).digest())
})
