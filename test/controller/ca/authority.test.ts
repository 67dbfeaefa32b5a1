/** Holds the CA to its word: what it issues, and what its directory survives. */

import { execFileSync } from 'node:child_process'
import { createPublicKey, X509Certificate } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import t from 'tap'
import { Authority } from '#controller/ca/authority.ts'
import type { AuthoritySettings } from '#controller/ca/authority.ts'
import { systemRandom as random } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseHostName, parseServiceName, parseTrustDomain } from '#shared/model/names.ts'
import { generateKey } from '#shared/pki/keys.ts'
import { readSvid } from '#shared/pki/svid.ts'
import { splitPem } from '#shared/pki/trust.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const trustDomain = must(parseTrustDomain('mesh.internal'))
const host = must(parseHostName('h1'))
const orders = must(parseServiceName('orders'))
const publicKey = createPublicKey(await generateKey())
const year = 365 * 86_400_000

function open(
  stateDirectory: string,
  settings: Partial<AuthoritySettings> = {},
  clock = new FakeClock({ epoch: Date.now() }),
): Promise<Authority> {
  return Authority.open(
    { clock, random, logger },
    { stateDirectory, trustDomain, leafTtlMs: 86_400_000, ...settings },
  )
}

t.test('what the CA issues passes OpenSSL in strict mode, and our own reading', async (t) => {
  const directory = testDirectory(t)
  const authority = await open(`${directory}/state`)
  const orderly = [
    [await authority.issueHost(host, publicKey), 'host/h1', 'h1.host.mesh.internal', 'CN=host/h1'],
    [
      await authority.issueService(orders, host, publicKey),
      'service/orders',
      'h1.host.mesh.internal',
      '',
    ],
    [
      await authority.issueController(host, publicKey),
      'controller/h1',
      'h1.controller.mesh.internal',
      'CN=controller/h1',
    ],
    [
      await authority.issueOperator(host, publicKey, 60_000),
      'operator/h1',
      'h1.operator.mesh.internal',
      'CN=operator/h1',
    ],
  ] as const
  writeFileSync(`${directory}/root.pem`, authority.bundlePem)
  for (const [issued, path, dnsName, subject] of orderly) {
    const chain = `${directory}/chain.pem`
    writeFileSync(chain, issued.chainPem)
    const trust = ['-CAfile', `${directory}/root.pem`, '-untrusted', chain]
    const args = ['verify', '-x509_strict', '-purpose', 'sslserver', ...trust, chain]
    const verified = execFileSync('openssl', args)
    t.match(verified.toString(), /OK/)
    const [leaf] = must(splitPem(issued.chainPem))
    if (leaf === undefined) throw new Error('no leaf')
    const svid = must(readSvid(leaf.raw, trustDomain))
    t.equal(issued.spiffeId, `spiffe://mesh.internal/${path}`)
    t.equal(svid.id, issued.spiffeId)
    t.same(svid.dnsNames, [dnsName])
    t.equal(leaf.subject ?? '', subject)
    t.equal(svid.serial, issued.serial)
    t.ok(issued.serial.length >= 30, '128 random bits')
    t.ok(svid.notBeforeMs <= Date.now() - 50_000, 'clocks may be behind')
    t.equal(svid.notAfterMs, issued.notAfterMs)
  }
})

t.test('serials differ, lifetimes are as configured and never beyond the issuer', async (t) => {
  const clock = new FakeClock({ epoch: Date.now() })
  const authority = await open(testDirectory(t), { leafTtlMs: 20_000 }, clock)
  const [one, two] = [
    await authority.issueHost(host, publicKey),
    await authority.issueHost(host, publicKey),
  ]
  t.not(one.serial, two.serial)
  t.ok(Math.abs(one.notAfterMs - clock.now() - 20_000) <= 1000)
  const long = await authority.issueOperator(host, publicKey, 5 * year)
  t.equal(long.notAfterMs, authority.ends.issuing)
})

t.test(
  'the issuing certificate is renewed at half its life, and old leaves stay good',
  async (t) => {
    const directory = testDirectory(t)
    const clock = new FakeClock({ epoch: Date.now() })
    const authority = await open(directory, {}, clock)
    const before = authority.ends.issuing
    await authority.refreshIssuing()
    t.equal(authority.ends.issuing, before)
    await clock.advance(year / 2 + 1000)
    await authority.refreshIssuing()
    t.ok(authority.ends.issuing > before)
    const issued = await authority.issueHost(host, publicKey)
    const [leaf, issuing] = must(splitPem(issued.chainPem))
    const [root] = must(splitPem(authority.bundlePem))
    t.ok(leaf !== undefined && issuing !== undefined && leaf.verify(issuing.publicKey))
    t.ok(issuing !== undefined && root !== undefined && issuing.verify(root.publicKey))
    const again = await open(directory, {}, clock)
    t.same(again.ends, authority.ends)
  },
)

t.test('the CA stays the same over a restart, in files for its owner alone', async (t) => {
  const state = `${testDirectory(t)}/deep/state`
  const [one, two] = [await open(state), await open(state)]
  t.equal(one.bundlePem, two.bundlePem)
  t.same(one.rootHash, two.rootHash)
  t.equal(statSync(`${state}/ca`).mode & 0o777, 0o700)
  for (const name of readdirSync(`${state}/ca`)) {
    t.equal(statSync(`${state}/ca/${name}`).mode & 0o777, 0o600, name)
  }
})

t.test('what a crash left of a creation is never used', async (t) => {
  const whole = testDirectory(t)
  await open(`${whole}/state`)
  // Every prefix of the work: so many files, the last of them cut short.
  const names = ['ca.json', '1.root.pem', '1.issuing.pem']
  for (const [count] of names.entries()) {
    const state = `${whole}/crash${count}`
    const fresh = `${state}/ca.new-0123456789ab`
    mkdirSync(fresh, { recursive: true })
    for (const name of names.slice(0, count + 1)) {
      cpSync(`${whole}/state/ca/${name}`, `${fresh}/${name}`)
    }
    truncateSync(`${fresh}/${names[count]}`, 10)
    await open(state)
    t.same(readdirSync(state), ['ca'])
  }
})

t.test('a damaged directory is refused and left as it is', async (t) => {
  const whole = testDirectory(t)
  await open(`${whole}/state`)
  const damages: readonly (readonly [string, (directory: string) => void])[] = [
    ['no facts', (d) => execFileSync('rm', [`${d}/ca/ca.json`])],
    ['facts cut short', (d) => truncateSync(`${d}/ca/ca.json`, 5)],
    ['facts of nothing', (d) => writeFileSync(`${d}/ca/ca.json`, 'null')],
    ['no phase', (d) => writeFileSync(`${d}/ca/ca.json`, '{"format":2,"trustDomain":"a.b"}')],
    ['a slot outside', (d) => replaceIn(`${d}/ca/ca.json`, '"1"', '"../1"')],
    ['no root', (d) => execFileSync('rm', [`${d}/ca/1.root.pem`])],
    ['an empty root', (d) => truncateSync(`${d}/ca/1.root.pem`, 0)],
    ['a root cut short', (d) => truncateSync(`${d}/ca/1.root.pem`, 700)],
    ['an issuing cut short', (d) => truncateSync(`${d}/ca/1.issuing.pem`, 300)],
    [
      'a key of another certificate',
      (d) => {
        const root = readFileSync(`${d}/ca/1.root.pem`, 'utf8')
        const issuing = readFileSync(`${d}/ca/1.issuing.pem`, 'utf8')
        const key = root.slice(root.indexOf('-----BEGIN PRIVATE'))
        const certificate = issuing.slice(0, issuing.indexOf('-----BEGIN PRIVATE'))
        writeFileSync(`${d}/ca/1.issuing.pem`, certificate + key)
      },
    ],
  ]
  for (const [what, damage] of damages) {
    const state = `${whole}/${what.replaceAll(' ', '-')}`
    cpSync(`${whole}/state`, state, { recursive: true })
    damage(state)
    const before = readdirSync(`${state}/ca`)
    await t.rejects(open(state), { code: 'state-damaged' }, what)
    t.same(readdirSync(`${state}/ca`), before, what)
  }
})

function replaceIn(path: string, from: string, to: string): void {
  writeFileSync(path, readFileSync(path, 'utf8').replace(from, to))
}

t.test('a newer format and another trust domain are refused, nothing written', async (t) => {
  const state = testDirectory(t)
  await open(state)
  const other = must(parseTrustDomain('other.internal'))
  await t.rejects(open(state, { trustDomain: other }), {
    code: 'trust-domain-fixed',
    message: /"mesh.internal".*"other.internal"/,
  })
  const newer = JSON.stringify({ format: 3, trustDomain, something: 'new' })
  writeFileSync(`${state}/ca/ca.json`, newer)
  await t.rejects(open(state), { code: 'state-from-newer-version', message: /format 3/ })
  t.equal(readFileSync(`${state}/ca/ca.json`, 'utf8'), newer)
  t.same(readdirSync(state), ['ca'])
})

t.test('a directory that cannot be written is a clear error', async (t) => {
  const directory = testDirectory(t, { file: '' })
  await t.rejects(open(`${directory}/file/state`), { code: /state-/ })
  t.notOk(existsSync(`${directory}/file/state`))
})

t.test('the root says whose it is and that it is a CA', async (t) => {
  const root = new X509Certificate((await open(testDirectory(t))).bundlePem)
  t.equal(root.ca, true)
  t.equal(root.subjectAltName, 'URI:spiffe://mesh.internal')
  t.ok(root.validToDate.getTime() - Date.now() > 9 * year)
})
