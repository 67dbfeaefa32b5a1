/**
 * Owns join tokens in the store: making them, judging one that is presented, and using it up
 * together with the host's record in one transaction, so that no two hosts can ever share one.
 * Used and expired tokens are kept for a day from then on, to be told apart from forged ones.
 */

import { timingSafeEqual } from 'node:crypto'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { HostName, Parsed } from '#shared/model/names.ts'
import type { HostRecord } from '#shared/model/records.ts'
import { formatJoinToken, hashSecret, parseJoinToken } from '#shared/pki/join-token.ts'
import { tokenKey, tokensPrefix } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { HostLedger } from '#controller/ca/host-ledger.ts'
import type { TokenRecord } from './token-record.ts'
import { decodeTokenRecord, encodeTokenRecord } from './token-record.ts'

/** What a token is to allow. */
export interface TokenOrder {
  readonly host: HostName
  readonly services: readonly string[]
  readonly ttlMs: number
  /** SPIFFE id of the operator. */
  readonly createdBy: string
}

/** Why a token is refused. */
export type TokenRefusal =
  'token-malformed' | 'token-foreign' | 'token-unknown' | 'token-used' | 'token-expired'

/** A token found good, with what it takes to use it up. */
export interface GoodToken {
  readonly id: string
  readonly record: TokenRecord
  readonly modRevision: number
}

/** What judging a token answers. */
export type TokenVerdict =
  | { readonly kind: 'good'; readonly token: GoodToken }
  | { readonly kind: 'refused'; readonly reason: TokenRefusal; readonly detail: string }

const keptMs = 86_400_000
/** Of one host, those remembered that end last. */
const mostUsedTokens = 100

/** See the header. */
export class JoinTokens {
  readonly #store: KeyValue
  readonly #hosts: HostLedger
  readonly #clock: Clock
  readonly #random: Random
  readonly #rootHash: () => Buffer
  readonly #maxWaiting: number

  constructor(
    parts: {
      readonly store: KeyValue
      readonly hosts: HostLedger
      readonly clock: Clock
      readonly random: Random
    },
    settings: {
      /** What tokens pin: the root that the controller proves itself under now. */
      readonly rootHash: () => Buffer
      /** Tokens neither used nor expired. @default 10_000 */
      readonly maxWaiting?: number
    },
  ) {
    this.#store = parts.store
    this.#hosts = parts.hosts
    this.#clock = parts.clock
    this.#random = parts.random
    this.#rootHash = settings.rootHash
    this.#maxWaiting = settings.maxWaiting ?? 10_000
  }

  /** Makes a token. Refuses when too many are waiting to be used. */
  async create(
    order: TokenOrder,
  ): Promise<Parsed<{ readonly token: string; readonly expiresAtMs: number }>> {
    if ((await this.#sweep()) >= this.#maxWaiting) {
      const problem = `${this.#maxWaiting} join tokens wait to be used already; let some expire`
      return { ok: false, problem }
    }
    const id = this.#random.bytes(12).toString('base64url')
    const secret = this.#random.bytes(32)
    const { host, services, createdBy, ttlMs } = order
    const expiresAtMs = this.#clock.now() + ttlMs
    const secretHash = hashSecret(secret)
    await this.#store.put(
      tokenKey(id),
      encodeTokenRecord({ secretHash, host, services, createdBy, expiresAtMs, usedAtMs: 0 }),
    )
    const token = formatJoinToken({ id, secret, rootHash: this.#rootHash() })
    return { ok: true, value: { token, expiresAtMs } }
  }

  /** Judges a token and changes nothing. */
  async judge(text: string): Promise<TokenVerdict> {
    const parsed = parseJoinToken(text)
    if (!parsed.ok) return refused('token-malformed', parsed.problem)
    const { id, secret, rootHash } = parsed.value
    if (!rootHash.equals(this.#rootHash())) {
      const made = 'the join token was made by another mesh, or before its root was changed'
      return refused('token-foreign', made)
    }
    const { entry } = await this.#store.get(tokenKey(id))
    const record = entry === null ? null : decodeTokenRecord(entry.value)
    if (entry === null || record?.ok !== true || !secretFits(record.value.secretHash, secret)) {
      return refused('token-unknown', 'the join token is not known here, or no longer')
    }
    const { usedAtMs, expiresAtMs, host } = record.value
    // The store may be one of before its use; what is known of the host is not.
    const known = usedAtMs > 0 ? null : await this.#hosts.read(host)
    if (Object.hasOwn(known?.usedTokens ?? {}, id)) {
      return refused('token-used', `the join token was used for host ${host} before`)
    }
    if (usedAtMs > 0) {
      const when = new Date(usedAtMs).toISOString()
      return refused('token-used', `the join token was used for host ${host} at ${when}`)
    }
    if (expiresAtMs <= this.#clock.now()) {
      const when = new Date(expiresAtMs).toISOString()
      return refused('token-expired', `the join token expired at ${when}`)
    }
    return { kind: 'good', token: { id, record: record.value, modRevision: entry.modRevision } }
  }

  /** Uses a token up and writes its host's record, both or neither; false when somebody was first. */
  async redeem(token: GoodToken): Promise<boolean> {
    const { host, services, expiresAtMs } = token.record
    const usedAtMs = this.#clock.now()
    const next = (known: HostRecord | null): HostRecord => ({
      host,
      services,
      enrolledAt: new Date(usedAtMs).toISOString(),
      usedTokens: { ...unended(known?.usedTokens, usedAtMs), [token.id]: expiresAtMs },
    })
    const key = tokenKey(token.id)
    const value = encodeTokenRecord({ ...token.record, usedAtMs })
    let isUnused = true
    while (isUnused) {
      const { kind } = await this.#hosts.change(host, next, {
        compare: [{ kind: 'mod-revision', key, equals: token.modRevision }],
        success: [{ kind: 'put', key, value }],
      })
      if (kind === 'done') return true
      // It may have been the host's record that somebody else was first with.
      const { entry } = await this.#store.get(key)
      isUnused = entry?.modRevision === token.modRevision
    }
    return false
  }

  /** Forgets tokens long past; answers how many wait to be used. */
  async #sweep(): Promise<number> {
    const { entries } = await this.#store.list(tokensPrefix)
    const now = this.#clock.now()
    let waiting = 0
    for (const { key, value } of entries) {
      const record = decodeTokenRecord(value)
      if (record.ok) {
        const { usedAtMs, expiresAtMs } = record.value
        const endedAtMs = usedAtMs > 0 ? usedAtMs : expiresAtMs
        if (usedAtMs === 0 && expiresAtMs > now) waiting++
        if (endedAtMs + keptMs > now) continue
      }
      await this.#store.delete(key)
    }
    return waiting
  }
}

function unended(tokens: HostRecord['usedTokens'] = {}, nowMs: number): Record<string, number> {
  const still = Object.entries(tokens).filter(([, endsMs]) => endsMs > nowMs)
  return Object.fromEntries(still.toSorted(([, a], [, b]) => b - a).slice(0, mostUsedTokens))
}

function refused(reason: TokenRefusal, detail: string): TokenVerdict {
  return { kind: 'refused', reason, detail }
}

function secretFits(hash: string, secret: Buffer): boolean {
  const expected = Buffer.from(hash)
  const presented = Buffer.from(hashSecret(secret))
  return expected.length === presented.length && timingSafeEqual(expected, presented)
}
