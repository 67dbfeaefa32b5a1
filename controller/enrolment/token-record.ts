/** Owns what the store holds of a join token: never its secret, only the secret's hash. */

import type { HostName, Parsed } from '#shared/model/names.ts'
import { parseHostName } from '#shared/model/names.ts'
import { parseServiceGlobs } from '#shared/model/service-globs.ts'

/** One token as stored. */
export interface TokenRecord {
  /** SHA-256 of the secret, base64url. */
  readonly secretHash: string
  readonly host: HostName
  /** Globs of the services the host may speak for. */
  readonly services: readonly string[]
  /** SPIFFE id of the operator who made it. */
  readonly createdBy: string
  /** Milliseconds since the epoch. */
  readonly expiresAtMs: number
  /** When it was used, milliseconds since the epoch; 0 while it was not. */
  readonly usedAtMs: number
}

/** Writes a record. */
export function encodeTokenRecord(record: TokenRecord): string {
  return JSON.stringify(record)
}

/** Reads a record. */
export function decodeTokenRecord(text: string): Parsed<TokenRecord> {
  const bad = { ok: false, problem: 'the token record in the store is damaged' } as const
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    return bad
  }
  const record = (raw ?? {}) as Readonly<Record<keyof TokenRecord, unknown>>
  const { secretHash, host, services, createdBy, expiresAtMs, usedAtMs } = record
  if (typeof secretHash !== 'string' || typeof host !== 'string' || !isTexts(services)) return bad
  if (typeof createdBy !== 'string') return bad
  if (typeof expiresAtMs !== 'number' || typeof usedAtMs !== 'number') return bad
  const name = parseHostName(host)
  const globs = parseServiceGlobs(services)
  if (!name.ok || !globs.ok) return bad
  const value = { secretHash, host: name.value, services: globs.value, createdBy }
  return { ok: true, value: { ...value, expiresAtMs, usedAtMs } }
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}
