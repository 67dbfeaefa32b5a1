/** Signed records: what is taken, and everything that is not. */

import { X509Certificate, createPublicKey } from 'node:crypto'
import t from 'tap'
import { Authority } from '#controller/ca/authority.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseHostName, parseTrustDomain } from '#shared/model/names.ts'
import { generateKey } from '#shared/pki/keys.ts'
import { nameRoots, rootName, rootOfChain } from '#shared/pki/root-name.ts'
import { openRecord, signRecord, splitRecord } from '#shared/pki/signed-record.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { activate, retire } from '#test/support/root-steps.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const trustDomain = must(parseTrustDomain('mesh.internal'))
const logger = createLogger({ name: 'test', level: 'silent' })
const makeAuthority = (stateDirectory: string): Promise<Authority> =>
  Authority.open({ clock, random, logger }, { stateDirectory, trustDomain, leafTtlMs: 60_000 })
const directory = testDirectory(t)
const authority = await makeAuthority(`${directory}/a`)
const trust = {
  roots: authority.roots.map((pem) => new X509Certificate(pem)),
  trustDomain,
  nowMs: Date.now(),
}
const key = '/mesh/v1/trust/bundle'
const record = { key, epoch: 3, body: '{"a":1}' }
const text = signRecord(authority.signer, record)

t.test('a record says its body, epoch and signer', async (t) => {
  const opened = must(openRecord(text, key, trust))
  t.match(opened, { epoch: 3, body: '{"a":1}', signerPem: authority.signer.certificatePem })
  t.match(must(splitRecord(text)), { epoch: 3, body: '{"a":1}' })
})

t.test('a record changed in any way, or under another key, is refused', async (t) => {
  const change = (fields: Readonly<Record<string, unknown>>): string =>
    JSON.stringify({ ...(JSON.parse(text) as object), ...fields })
  const other = await makeAuthority(`${directory}/b`)
  const leaf = await (await makeTestCa()).issue({ id: 'spiffe://mesh.internal/controller/c1' })
  const bad: Readonly<Record<string, readonly [string, RegExp]>> = {
    'no JSON': ['{', /not JSON/],
    'another epoch': [change({ epoch: 4 }), /signature/],
    'no epoch': [change({ epoch: '3' }), /epoch/],
    'epoch 0': [change({ epoch: 0 }), /epoch/],
    'a fraction': [change({ epoch: 3.5 }), /epoch/],
    'another body': [change({ body: '{"a":2}' }), /signature/],
    'no body': [change({ body: null }), /lacks body/],
    'no signature': [change({ signature: '' }), /signature/],
    'a signature of another record': [
      change({
        signature: (
          JSON.parse(signRecord(authority.signer, { ...record, epoch: 4 })) as { signature: string }
        ).signature,
      }),
      /signature/,
    ],
    'another CA of the same name': [signRecord(other.signer, record), /no trusted root issued/],
    'the signer replaced': [change({ signer: other.signer.certificatePem }), /no trusted root/],
    'the root as signer': [change({ signer: authority.roots[0] }), /signature/],
    'two signers': [
      change({ signer: authority.signer.certificatePem + other.signer.certificatePem }),
      /another form/,
    ],
    'a leaf as signer': [
      signRecord(
        {
          certificatePem: leaf.chainPem.split(/(?<=END CERTIFICATE-----\n)/)[0] ?? '',
          key: leaf.key,
        },
        record,
      ),
      /no issuing CA/,
    ],
    'no certificate': [change({ signer: 'x' }), /unreadable/],
    'too long': [change({ body: 'x'.repeat(1_100_000) }), /longer/],
  }
  for (const [name, [text, problem]] of Object.entries(bad)) {
    const opened = openRecord(text, key, trust)
    t.equal(opened.ok, false, name)
    if (!opened.ok) t.match(opened.problem, problem, name)
  }
  t.equal(openRecord(text, '/mesh/v1/trust/bans', trust).ok, false)
  const elsewhere = must(parseTrustDomain('other.internal'))
  t.equal(openRecord(text, key, { ...trust, trustDomain: elsewhere }).ok, false)
  t.equal(openRecord(text, key, { ...trust, roots: [] }).ok, false)
  t.equal(openRecord(text, key, { ...trust, nowMs: Date.now() + 400 * 86_400_000 }).ok, false)
})

t.test('with two roots, the signature of either counts, and chains are told apart', async (t) => {
  await authority.prepare()
  const roots = authority.roots.map((pem) => new X509Certificate(pem))
  const named = nameRoots(authority.bundlePem)
  t.same(
    [...named.keys()],
    roots.map((root) => rootName(root.raw)),
  )
  await activate(authority)
  const publicKey = createPublicKey(await generateKey())
  const issued = await authority.issueOperator(must(parseHostName('op')), publicKey, 60_000)
  t.equal(rootOfChain(issued.chainPem, named), authority.issuingRoot)
  const own = await authority.issueController(must(parseHostName('c1')), publicKey)
  t.not(rootOfChain(own.chainPem, named), authority.issuingRoot, 'the controller stays behind')
  t.ok(openRecord(signRecord(authority.signer, record), key, { ...trust, roots }).ok)
  await retire(authority)
  const signed = signRecord(authority.signer, record)
  t.ok(openRecord(signed, key, { ...trust, roots: roots.slice(1) }).ok)
  t.equal(openRecord(text, key, { ...trust, roots: roots.slice(1) }).ok, false, 'the old signature')
  t.equal(rootOfChain('nothing', named), null)
})
