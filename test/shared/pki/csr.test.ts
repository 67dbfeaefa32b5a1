/** Holds the check of signing requests to a table of bad ones: none is ever accepted. */

import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import * as fc from 'fast-check'
import t from 'tap'
import { checkCsr, makeCsr } from '#shared/pki/csr.ts'
import { generateKey, keyToPem, publicKeyDer } from '#shared/pki/keys.ts'
import { der } from '#test/support/certs.ts'

const p256 = await generateKey()
const other = await generateKey()
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
const secp256k1 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey
const ed25519 = generateKeyPairSync('ed25519').privateKey
const x25519 = generateKeyPairSync('x25519')
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey

const ecdsaSha256 = der(0x30, der(0x06, Buffer.from('2a8648ce3d040302', 'hex')))
const ecdsaSha1 = der(0x30, der(0x06, Buffer.from('2a8648ce3d0401', 'hex')))
const rsaSha256 = der(0x30, der(0x06, Buffer.from('2a864886f70d01010b', 'hex')), der(0x05))
const ed = der(0x30, der(0x06, Buffer.from('2b6570', 'hex')))

interface Recipe {
  readonly version?: string
  readonly spki?: Buffer
  readonly attributes?: Buffer
  readonly more?: Buffer
  readonly algorithm?: Buffer
  readonly digest?: string | null
  readonly signer?: KeyObject
}

/** A request made by hand, so that any part can be wrong and still be signed. */
function makeByHand(recipe: Recipe = {}): Buffer {
  const { version = '\0', attributes = der(0xa0), more = Buffer.alloc(0), signer = p256 } = recipe
  const info = der(
    0x30,
    der(0x02, version),
    der(0x30),
    recipe.spki ?? publicKeyDer(p256),
    attributes,
    more,
  )
  const signature = sign(recipe.digest === undefined ? 'sha256' : recipe.digest, info, signer)
  return der(0x30, info, recipe.algorithm ?? ecdsaSha256, der(0x03, '\0', signature))
}

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
  const directory = t.testdir({ 'key.pem': keyToPem(p256) })
  const key = `${directory}/key.pem`
  const args = ['req', '-new', '-key', key, '-subj', '/CN=anybody', '-outform', 'DER']
  const byOpenssl = execFileSync('openssl', args)
  t.equal(checkCsr(byOpenssl).ok, true)
})

const good = await makeCsr(p256)
const flipped = Buffer.from(good)
flipped[flipped.length - 5] = (flipped[flipped.length - 5] ?? 0) ^ 1
const wish = der(
  0xa0,
  der(
    0x30,
    der(0x06, Buffer.from('2a864886f70d01090e', 'hex')),
    der(
      0x31,
      der(
        0x30,
        der(
          0x30,
          der(0x06, Buffer.from('551d11', 'hex')),
          der(0x04, der(0x30, der(0x86, 'spiffe://mesh.internal/service/admin'))),
        ),
      ),
    ),
  ),
)
const notOnCurve = Buffer.from(publicKeyDer(p256))
notOnCurve.fill(7, notOnCurve.length - 64)

const bad: readonly (readonly [string, Buffer, RegExp])[] = [
  ['nothing', Buffer.alloc(0), /well-formed/],
  ['zeros', Buffer.alloc(64), /well-formed/],
  ['text', Buffer.from('-----BEGIN CERTIFICATE REQUEST-----'), /well-formed/],
  ['a request with bytes after it', Buffer.concat([good, Buffer.of(0)]), /well-formed/],
  ['an overlong request', Buffer.concat([good, Buffer.alloc(5000)]), /larger/],
  ['a flipped bit in the signature', flipped, /not signed/],
  ['a signature by another key', makeByHand({ signer: other }), /not signed/],
  [
    'no signature bits',
    der(
      0x30,
      der(0x30, der(0x02, '\0'), der(0x30), publicKeyDer(p256)),
      ecdsaSha256,
      der(0x03, '\0'),
    ),
    /not signed/,
  ],
  ['a wish for a name', makeByHand({ attributes: wish }), /asks for names/],
  ['fields of its own', makeByHand({ more: der(0x04, 'x') }), /do not belong/],
  ['another version', makeByHand({ version: '\x01' }), /version/],
  ['a P-384 key', makeByHand({ spki: publicKeyDer(p384), signer: p384 }), /neither/],
  ['a secp256k1 key', makeByHand({ spki: publicKeyDer(secp256k1), signer: secp256k1 }), /neither/],
  [
    'an RSA key',
    makeByHand({ spki: publicKeyDer(rsa), signer: rsa, algorithm: rsaSha256 }),
    /neither/,
  ],
  [
    'a key that cannot sign',
    makeByHand({ spki: x25519.publicKey.export({ type: 'spki', format: 'der' }) }),
    /neither/,
  ],
  ['a point off the curve', makeByHand({ spki: notOnCurve }), /neither/],
  ['a damaged key', makeByHand({ spki: der(0x30, 'xx') }), /neither/],
  ['SHA-1', makeByHand({ algorithm: ecdsaSha1, digest: 'sha1' }), /algorithm/],
  ['RSA by name', makeByHand({ algorithm: rsaSha256 }), /algorithm/],
  ['Ed25519 by name', makeByHand({ algorithm: ed }), /algorithm/],
  ['a private key', p256.export({ type: 'pkcs8', format: 'der' }), /well-formed/],
]

t.test('checkCsr refuses every bad request and says why', async (t) => {
  for (const [what, request, problem] of bad)
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
