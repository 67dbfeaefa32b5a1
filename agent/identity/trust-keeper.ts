/**
 * Owns what this host trusts: the trust bundle and the bans, as controllers signed them. A record
 * counts only when a root trusted so far vouches for it and its epoch is higher than the last one's,
 * so that no old store brings a retired root back or lifts a ban. What is taken is on the disk before
 * anybody is told. A new enrolment begins afresh with the root its token pins.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import type { Bans, RootName, TrustEpochs } from '#shared/model/trust.ts'
import { noBans } from '#shared/model/trust.ts'
import { BanList, type BannableSvid } from '#shared/pki/ban-list.ts'
import type { NamedRoots } from '#shared/pki/root-name.ts'
import { nameRoots } from '#shared/pki/root-name.ts'
import type { SignedRecord } from '#shared/pki/signed-record.ts'
import { openRecord, splitRecord } from '#shared/pki/signed-record.ts'
import { joinPem } from '#shared/pki/trust.ts'
import type { TrustRecord } from '#shared/rpc/mesh-api.ts'
import { decodeBans, decodeBundle } from '#shared/schema/trust.ts'
import { bansKey, bundleKey } from '#shared/store/keys.ts'
import type { KeptTrust, TrustFile } from './trust-file.ts'

/** What a keeper leans on. */
export interface TrustKeeperParts {
  readonly file: TrustFile
  readonly clock: Clock
  readonly logger: Logger
}

/** What is trusted now; replaced whole. */
export interface Trust {
  readonly trustDomain: TrustDomain
  /** Every trusted root, PEM. */
  readonly bundlePem: string
  readonly roots: NamedRoots
  /** The root that certificates are to chain to; null until a controller has said so. */
  readonly issuing: RootName | null
  /** Over how long to spread the renewals of those that do not, milliseconds. */
  readonly spreadMs: number
  readonly bans: Bans
  readonly epochs: TrustEpochs
}

/** See the header. */
export class TrustKeeper {
  readonly #parts: TrustKeeperParts
  readonly #listeners = new Set<(trust: Trust) => void>()
  /** Texts already refused, so that each is told once. */
  readonly #refused = new Set<string>()
  #kept: KeptTrust | null = null
  #trust: Trust | null = null
  #banList = new BanList(noBans, '' as TrustDomain)
  #problem = ''
  #writing: Promise<void> = Promise.resolve()

  constructor(parts: TrustKeeperParts) {
    this.#parts = parts
  }

  /** What is trusted; null until this host has enrolled. */
  get trust(): Trust | null {
    return this.#trust
  }

  /** Why the newest is not on the disk; empty while it is. */
  get problem(): string {
    return this.#problem
  }

  /** Why a certificate is worth nothing though it chains to a trusted root, or an empty string. */
  refusal(svid: BannableSvid): string {
    return this.#banList.refusal(svid)
  }

  /** Calls back with all that is trusted after every change; answers how to stop that. */
  onChange(listener: (trust: Trust) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Reads what is on the disk; `anchor` stands in where there is nothing of that trust domain. */
  async load(anchor: {
    readonly trustDomain: TrustDomain
    readonly bundlePem: string
  }): Promise<void> {
    const found = await this.#parts.file.load()
    const fits = found !== null && found.trustDomain === anchor.trustDomain
    const { trustDomain, bundlePem: anchorPem } = anchor
    this.#take(fits ? found : { trustDomain, anchorPem, bundle: null, bans: null })
  }

  /** Begins afresh: a token, which an operator brought, pins another beginning. */
  async anchor(trustDomain: TrustDomain, anchorPem: string): Promise<void> {
    this.#refused.clear()
    await this.#save({ trustDomain, anchorPem, bundle: null, bans: null })
  }

  /** Takes what is new of these records, in the order in which each vouches for the next. */
  async offer(records: readonly TrustRecord[]): Promise<void> {
    const bundle = records.filter(({ key }) => key === bundleKey)
    const bans = records.filter(({ key }) => key === bansKey)
    for (const record of [...bundle, ...bans]) await this.#offer(record)
  }

  #offer(record: TrustRecord): Promise<void> {
    const done = this.#writing.then(() => this.#consider(record))
    this.#writing = done.catch(() => {})
    return done
  }

  async #consider({ key, value }: TrustRecord): Promise<void> {
    const kept = this.#kept
    if (kept === null) return
    const name = key === bundleKey ? 'bundle' : 'bans'
    if (kept[name] === value || this.#refused.has(value)) return
    const problem = this.#judge(name, value)
    if (problem === '') await this.#save({ ...kept, [name]: value })
    else this.#refuse(key, value, problem)
  }

  /** Why a record does not count, or an empty string. */
  #judge(name: 'bundle' | 'bans', text: string): string {
    const trust = this.#trust
    if (trust === null) return 'this host has not enrolled'
    const { roots, trustDomain, epochs } = trust
    const nowMs = this.#parts.clock.now()
    const key = name === 'bundle' ? bundleKey : bansKey
    const record = openRecord(text, key, { roots: [...roots.values()], trustDomain, nowMs })
    if (!record.ok) return record.problem
    const { epoch, body } = record.value
    if (epoch <= epochs[name]) {
      return `its epoch ${epoch} is not above ${epochs[name]}, which is in force`
    }
    const decoded = name === 'bundle' ? decodeBundle(body) : decodeBans(body)
    return decoded.ok ? '' : decoded.problem
  }

  #refuse(key: string, text: string, problem: string): void {
    // Bounded: a store full of nonsense must not fill the memory.
    if (this.#refused.size >= 100) this.#refused.clear()
    this.#refused.add(text)
    this.#parts.logger.warn({ key, problem }, 'trust record refused; what was known stays in force')
  }

  /** On the disk first; what cannot be written counts all the same, and is told. */
  async #save(kept: KeptTrust): Promise<void> {
    try {
      await this.#parts.file.save(kept)
      this.#problem = ''
    } catch (error) {
      this.#problem = messageOf(error)
      this.#parts.logger.error({ problem: this.#problem }, 'what this host trusts was not saved')
    }
    this.#take(kept)
  }

  #take(kept: KeptTrust): void {
    const before = this.#trust
    const after = trustOf(kept)
    this.#kept = kept
    this.#trust = after
    this.#banList = new BanList(after.bans, after.trustDomain)
    const { epochs, issuing } = after
    const roots = [...after.roots.keys()]
    this.#parts.logger.info({ before: before?.epochs, epochs, roots, issuing }, 'trust in force')
    for (const listener of this.#listeners) listener(after)
  }
}

/** What was checked before it was kept is read again without asking who signed it. */
function trustOf({ trustDomain, anchorPem, bundle, bans }: KeptTrust): Trust {
  const bundleRecord = bundle === null ? null : keptRecord(bundle)
  const bansRecord = bans === null ? null : keptRecord(bans)
  const known = bundleRecord === null ? null : decodeBundle(bundleRecord.body)
  const banned = bansRecord === null ? null : decodeBans(bansRecord.body)
  const bundlePem = known?.ok === true ? joinPem(known.value.roots) : anchorPem
  return {
    trustDomain,
    bundlePem,
    roots: nameRoots(bundlePem),
    issuing: known?.ok === true ? known.value.issuing : null,
    spreadMs: known?.ok === true ? known.value.spreadMs : 0,
    bans: banned?.ok === true ? banned.value : noBans,
    epochs: { bundle: bundleRecord?.epoch ?? 0, bans: bansRecord?.epoch ?? 0 },
  }
}

function keptRecord(text: string): SignedRecord | null {
  const record = splitRecord(text)
  return record.ok ? record.value : null
}
