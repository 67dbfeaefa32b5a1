/**
 * Owns the spelling of join tokens: `hmjoin1.<id>.<secret>.<hash of the CA's root>`, the last three
 * in base64url. A token is a secret; nothing here logs or stores one.
 */

import { createHash } from 'node:crypto'
import type { Parsed } from '#shared/model/names.ts'

/** A token taken apart. */
export interface JoinToken {
  /** Names the token in the controller's records; no secret. Base64url. */
  readonly id: string
  /** 32 bytes. */
  readonly secret: Buffer
  /** SHA-256 of the root certificate, 32 bytes. */
  readonly rootHash: Buffer
}

const shape = /^hmjoin1\.([\w-]{16})\.([\w-]{43})\.([\w-]{43})$/

/** Writes a token. */
export function formatJoinToken(token: JoinToken): string {
  const { id, secret, rootHash } = token
  return `hmjoin1.${id}.${secret.toString('base64url')}.${rootHash.toString('base64url')}`
}

/** Reads a token; white space around it is allowed, as files have. The problem quotes none of it. */
export function parseJoinToken(text: string): Parsed<JoinToken> {
  const [, id = '', secret = '', rootHash = ''] = shape.exec(text.trim()) ?? []
  const token = {
    id,
    secret: Buffer.from(secret, 'base64url'),
    rootHash: Buffer.from(rootHash, 'base64url'),
  }
  // Written again it must be the same text: base64url has more than one spelling of some bytes.
  return id !== '' && formatJoinToken(token) === text.trim()
    ? { ok: true, value: token }
    : {
        ok: false,
        problem: 'the join token is malformed; it reads hmjoin1.<id>.<secret>.<hash>, on one line',
      }
}

/** What a controller stores instead of a secret: its SHA-256, base64url. */
export function hashSecret(secret: Buffer): string {
  return createHash('sha256').update(secret).digest('base64url')
}
