/** Owns signing requests that are wrong in one way each, made by hand so that all of it can be wrong. */

import { generateKeyPairSync, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { makeCsr } from '#shared/pki/csr.ts'
import { generateKey, publicKeyDer } from '#shared/pki/keys.ts'
import { der, makeTestCa } from './certs.ts'

export const p256 = await generateKey()
const other = await generateKey()
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
const secp256k1 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey
export const ed25519 = generateKeyPairSync('ed25519').privateKey
const x25519 = generateKeyPairSync('x25519')
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey

const ecdsaSha256 = der(0x30, der(0x06, Buffer.from('2a8648ce3d040302', 'hex')))
const ecdsaSha1 = der(0x30, der(0x06, Buffer.from('2a8648ce3d0401', 'hex')))
const rsaSha256 = der(0x30, der(0x06, Buffer.from('2a864886f70d01010b', 'hex')), der(0x05))
export const ed = der(0x30, der(0x06, Buffer.from('2b6570', 'hex')))

interface Recipe {
  readonly version?: string
  readonly spki?: Buffer
  readonly attributes?: Buffer
  readonly more?: Buffer
  readonly algorithm?: Buffer
  readonly digest?: string | null
  readonly signer?: KeyObject
  readonly subject?: Buffer
  /** What is signed instead of the request. */
  readonly signs?: Buffer
  readonly signature?: Buffer
  readonly unusedBits?: number
}

/** A request made by hand, so that any part can be wrong and still be signed. */
export function makeByHand(recipe: Recipe = {}): Buffer {
  const { version = '\0', attributes = der(0xa0), more = Buffer.alloc(0), signer = p256 } = recipe
  const info = der(
    0x30,
    der(0x02, version),
    recipe.subject ?? der(0x30),
    recipe.spki ?? publicKeyDer(p256),
    attributes,
    more,
  )
  const digest = recipe.digest === undefined ? 'sha256' : recipe.digest
  const signature = recipe.signature ?? sign(digest, recipe.signs ?? info, signer)
  const bits = der(0x03, Buffer.of(recipe.unusedBits ?? 0), signature)
  return der(0x30, info, recipe.algorithm ?? ecdsaSha256, bits)
}

const rsaMd5 = der(0x30, der(0x06, Buffer.from('2a864886f70d010104', 'hex')), der(0x05))
const ecKey = der(0x06, Buffer.from('2a8648ce3d0201', 'hex'))
const point = publicKeyDer(p256).subarray(-65)
const otherCurve = der(
  0x30,
  der(0x30, ecKey, der(0x06, Buffer.from('2b81040022', 'hex'))),
  der(0x03, '\0', point),
)
const noBits = der(
  0x30,
  der(
    0x30,
    der(0x06, Buffer.from('2a8648ce3d0201', 'hex')),
    der(0x06, Buffer.from('2a8648ce3d030107', 'hex')),
  ),
  der(0x03, '\0'),
)

export const good = await makeCsr(p256)
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

/** What is wrong, the request, and a word the problem must name. */
export const badCsrs: readonly (readonly [string, Buffer, RegExp])[] = [
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
  ['a certificate', (await (await makeTestCa()).issue({ id: 'spiffe://a/service/b' })).der, /./],
  ['the same request twice', Buffer.concat([good, good]), /well-formed/],
  ['a request cut short', good.subarray(0, -1), /well-formed/],
  ['a request without its first byte', good.subarray(1), /well-formed/],
  ['its signed part alone', good.subarray(4), /well-formed/],
  ['a request in a box', der(0x30, good), /./],
  ['an indefinite length', Buffer.concat([Buffer.of(0x30, 0x80), good.subarray(4)]), /well-formed/],
  [
    'a set instead of a sequence',
    Buffer.concat([Buffer.of(0x31), good.subarray(1)]),
    /well-formed/,
  ],
  ['a signature of nothing', makeByHand({ signs: Buffer.alloc(0) }), /not signed/],
  ['a signature of the key alone', makeByHand({ signs: publicKeyDer(p256) }), /not signed/],
  ['a signature of a certificate request of another', makeByHand({ signs: good }), /not signed/],
  [
    'a null signature',
    makeByHand({ signature: der(0x30, der(2, '\0'), der(2, '\0')) }),
    /not signed/,
  ],
  ['a signature of ones', makeByHand({ signature: Buffer.alloc(71, 0xff) }), /not signed/],
  ['a signature with unused bits', makeByHand({ unusedBits: 1 }), /not signed/],
  ['no algorithm', makeByHand({ algorithm: der(0x30) }), /well-formed/],
  ['an algorithm nobody knows', makeByHand({ algorithm: der(0x30, der(6, 'x')) }), /algorithm/],
  ['MD5', makeByHand({ algorithm: rsaMd5 }), /algorithm/],
  ['a key for another curve by name', makeByHand({ spki: otherCurve }), /neither/],
  ['the key of another', makeByHand({ spki: publicKeyDer(other) }), /not signed/],
  ['a key of no bits', makeByHand({ spki: noBits }), /neither/],
  ['attributes of another kind', makeByHand({ attributes: der(0xa1) }), /well-formed/],
  ['an attribute of nothing', makeByHand({ attributes: der(0xa0, der(0x30)) }), /asks for names/],
  ['version 2', makeByHand({ version: '\x02' }), /version/],
  ['a version of two bytes', makeByHand({ version: '\0\0' }), /version/],
  ['a subject of no sequence', makeByHand({ subject: der(0x31) }), /well-formed/],
]
