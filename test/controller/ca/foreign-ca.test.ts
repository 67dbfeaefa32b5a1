/** A CA from outside: what is taken in, and what is not. OpenSSL plays the world's part. */

import { execFileSync } from 'node:child_process'
import { createPublicKey } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { Authority } from '#controller/ca/authority.ts'
import { acceptCa, importCa, readPemMaterial, requestCa } from '#controller/ca/foreign-ca.ts'
import { readPkcs12 } from '#controller/ca/pkcs12.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { must, parseHostName, parseTrustDomain } from '#shared/model/names.ts'
import { generateKey } from '#shared/pki/keys.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const trustDomain = must(parseTrustDomain('mesh.internal'))
const host = must(parseHostName('h1'))
const parts = { clock, random }
const unusable = { code: 'ca-unusable' }

/** A world of OpenSSL's in a directory. */
class World {
  readonly directory: string

  constructor(t: Test) {
    this.directory = testDirectory(t)
  }

  path(name: string): string {
    return join(this.directory, name)
  }

  openssl(...words: readonly string[]): void {
    execFileSync('openssl', words, { cwd: this.directory, stdio: 'pipe' })
  }

  /** Makes `<name>.key` and `<name>.pem`: a CA of its own, or one under `issuer`. */
  ca(name: string, options: { issuer?: string; san?: string; curve?: string; days?: number } = {}) {
    const { issuer, san = 'URI:spiffe://mesh.internal', curve = 'prime256v1', days = 30 } = options
    this.openssl('ecparam', '-name', curve, '-genkey', '-noout', '-out', `${name}.ec`)
    this.openssl('pkcs8', '-topk8', '-nocrypt', '-in', `${name}.ec`, '-out', `${name}.key`)
    this.openssl(
      'req',
      '-new',
      '-key',
      `${name}.key`,
      '-subj',
      `/CN=${name}`,
      '-out',
      `${name}.csr`,
    )
    this.sign(name, { days, san, ...(issuer === undefined ? {} : { issuer }) })
  }

  sign(name: string, options: { issuer?: string; san: string; days: number; isCa?: boolean }) {
    const { issuer, san, days, isCa = true } = options
    const extensions = [
      `basicConstraints=critical,CA:${isCa ? 'TRUE' : 'FALSE'}`,
      'keyUsage=critical,keyCertSign,cRLSign',
      'subjectKeyIdentifier=hash',
      ...(san === '' ? [] : [`subjectAltName=${san}`]),
    ]
    writeFileSync(this.path('extensions'), `${extensions.join('\n')}\n`)
    const signer =
      issuer === undefined
        ? ['-signkey', `${name}.key`]
        : ['-CA', `${issuer}.pem`, '-CAkey', `${issuer}.key`, '-CAcreateserial']
    const common = ['-in', `${name}.csr`, '-days', String(days), '-extfile', 'extensions']
    this.openssl('x509', '-req', ...common, ...signer, '-out', `${name}.pem`)
  }

  /** Puts files together. */
  bundle(name: string, ...files: readonly string[]): string {
    writeFileSync(this.path(name), files.map((file) => readFileSync(this.path(file))).join('\n'))
    return this.path(name)
  }

  settings(file: string) {
    return { stateDirectory: this.path('state'), trustDomain, file }
  }

  /** The CA as the controller opens it, with a certificate that OpenSSL verifies under `root`. */
  async proves(t: Test, root: string): Promise<Authority> {
    const { logger } = logLines()
    const settings = { stateDirectory: this.path('state'), trustDomain, leafTtlMs: 3_600_000 }
    const authority = await Authority.open({ clock, random, logger }, settings)
    const { chainPem } = await authority.issueHost(host, createPublicKey(await generateKey()))
    writeFileSync(this.path('chain.pem'), chainPem)
    const trust = ['-x509_strict', '-CAfile', root, '-untrusted', 'chain.pem', 'chain.pem']
    this.openssl('verify', ...trust)
    t.pass('OpenSSL verifies what it issues')
    return authority
  }
}

t.test('a root with its key becomes the CA, from PEM', async (t) => {
  const world = new World(t)
  world.ca('root', { san: '' })
  const file = world.bundle('both.pem', 'root.pem', 'root.key')
  await importCa(parts, world.settings(file), await readPemMaterial(file))
  const authority = await world.proves(t, 'root.pem')
  t.equal(authority.hasRootKey, true)
  await t.rejects(
    importCa(parts, world.settings(file), await readPemMaterial(file)).then(async () => {
      world.ca('other', { san: '' })
      const other = world.bundle('other-both.pem', 'other.pem', 'other.key')
      return importCa(parts, world.settings(other), await readPemMaterial(other))
    }),
    unusable,
    'another root does not replace it',
  )
  await world.proves(t, 'root.pem')
})

t.test('an issuing certificate with its key becomes the CA, from PKCS#12', async (t) => {
  const world = new World(t)
  world.ca('root', { san: '' })
  world.ca('issuing', { issuer: 'root' })
  writeFileSync(world.path('password'), 'correct horse')
  const pack = ['-in', 'issuing.pem', '-inkey', 'issuing.key', '-certfile', 'root.pem']
  world.openssl('pkcs12', '-export', ...pack, '-passout', 'file:password', '-out', 'ca.p12')
  const file = world.path('ca.p12')
  await t.rejects(readPkcs12(file, 'wrong'), unusable)
  await t.rejects(readPkcs12(world.path('root.pem'), 'x'), unusable)
  await importCa(parts, world.settings(file), await readPkcs12(file, 'correct horse'))
  const authority = await world.proves(t, 'root.pem')
  t.equal(authority.hasRootKey, false)
  t.equal(await authority.issueIntermediate(host, createPublicKey(await generateKey())), null)
  const kept = readdirSync(world.path('state/ca')).filter((name) => name.endsWith('root.pem'))
  for (const name of kept) {
    t.notMatch(readFileSync(world.path(`state/ca/${name}`), 'utf8'), /PRIVATE KEY/)
  }
})

t.test('a request is answered, its key never leaves, and the answer is renewed', async (t) => {
  const world = new World(t)
  world.ca('root', { san: '' })
  const settings = { stateDirectory: world.path('state'), trustDomain }
  const request = await requestCa(settings)
  t.equal(createPublicKey(readFileSync(world.path('state/ca-request.key'))).asymmetricKeyType, 'ec')
  t.equal((await requestCa(settings)).split('\n').length, request.split('\n').length)
  const answer = async (days: number): Promise<string> => {
    writeFileSync(world.path('mine.csr'), await requestCa(settings))
    world.openssl('req', '-in', 'mine.csr', '-verify', '-noout')
    world.sign('mine', { issuer: 'root', san: 'URI:spiffe://mesh.internal', days })
    return world.bundle('answer.pem', 'mine.pem', 'root.pem')
  }
  await acceptCa(parts, { ...settings, file: await answer(20) })
  t.notOk(existsSync(world.path('state/ca-request.key')))
  const first = (await world.proves(t, 'root.pem')).ends.issuing
  await t.rejects(acceptCa(parts, world.settings(world.path('answer.pem'))), unusable)
  await acceptCa(parts, { ...settings, file: await answer(40) })
  t.ok((await world.proves(t, 'root.pem')).ends.issuing > first)
})

t.test('what would not hold is refused, and nothing is written', async (t) => {
  const world = new World(t)
  world.ca('root', { san: '' })
  world.ca('middle', { issuer: 'root' })
  world.ca('deep', { issuer: 'middle' })
  world.ca('foreign', { issuer: 'root', san: 'URI:spiffe://other.mesh' })
  world.ca('nameless', { issuer: 'root', san: '' })
  world.ca('short', { issuer: 'root', days: 1 })
  world.ca('big', { curve: 'secp384r1' })
  world.ca('leaf', { issuer: 'root' })
  world.sign('leaf', { issuer: 'root', san: 'URI:spiffe://mesh.internal', days: 30, isCa: false })
  const cases: Readonly<Record<string, readonly string[]>> = {
    'its issuer is missing': ['middle.pem', 'middle.key'],
    'a chain that is too long': ['deep.pem', 'middle.pem', 'root.pem', 'deep.key'],
    'of another trust domain': ['foreign.pem', 'root.pem', 'foreign.key'],
    'without the mesh’s name': ['nameless.pem', 'root.pem', 'nameless.key'],
    'about to end': ['short.pem', 'root.pem', 'short.key'],
    'no CA': ['leaf.pem', 'root.pem', 'leaf.key'],
    'a key that is not P-256': ['big.pem', 'big.key'],
    'the key of another': ['middle.pem', 'root.pem', 'deep.key'],
    'no key': ['root.pem'],
    'no certificate': ['root.key'],
  }
  for (const [what, files] of Object.entries(cases)) {
    const file = world.bundle('bad.pem', ...files)
    const importing = readPemMaterial(file).then((material) =>
      importCa(parts, world.settings(file), material),
    )
    await t.rejects(importing, unusable, what)
    t.notOk(existsSync(world.path('state/ca')), what)
  }
})
