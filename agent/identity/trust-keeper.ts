/**
 * Owns what this host trusts: the trust bundle, the bans and the mesh's policies, as controllers signed them. A record
 * counts only when a root trusted so far vouches for it and its epoch is higher than the last one's,
 * so that no old store brings a retired root back or lifts a ban. What is taken is on the disk before
 * anybody is told. A new enrolment begins afresh with the root its token pins.
 */

import { createHash } from 'node:crypto'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { Lane } from '#shared/lifecycle/lane.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { MetricSeries } from '#shared/metrics/registry.ts'
import type { Parsed, TrustDomain } from '#shared/model/names.ts'
import type { Policy } from '#shared/model/policy.ts'
import type { Bans, RootName, TrustEpochs } from '#shared/model/trust.ts'
import { noBans } from '#shared/model/trust.ts'
import { BanList, type BannableSvid } from '#shared/pki/ban-list.ts'
import type { NamedRoots } from '#shared/pki/root-name.ts'
import { nameRoots } from '#shared/pki/root-name.ts'
import type { RecordRefusal } from '#shared/pki/signed-record.ts'
import { judgeRecord, splitRecord } from '#shared/pki/signed-record.ts'
import { joinPem } from '#shared/pki/trust.ts'
import type { TrustRecord } from '#shared/rpc/host-messages.ts'
import { decodePolicies, readMeshPolicies } from '#shared/schema/mesh-policies.ts'
import { decodeBans, decodeBundle } from '#shared/schema/trust.ts'
import type { StoreKey } from '#shared/store/keys.ts'
import { bansKey, bundleKey, policiesKey } from '#shared/store/keys.ts'
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
  /** What holds on every host, beside this host's own policy files. */
  readonly policies: readonly Policy[]
  readonly epochs: TrustEpochs & { readonly policies: number }
}

type TrustName = 'bundle' | 'bans' | 'policies'

/** In the order in which each vouches for the next. */
const names = ['bundle', 'bans', 'policies'] as const satisfies readonly TrustName[]
const keys: Readonly<Record<TrustName, StoreKey>> = {
  bundle: bundleKey,
  bans: bansKey,
  policies: policiesKey,
}
const decoders: Readonly<Record<TrustName, (body: string) => Parsed<unknown>>> = {
  bundle: decodeBundle,
  bans: decodeBans,
  policies: readPolicies,
}
const noRecords = { bundle: null, bans: null, policies: null } as const
const noPolicies: readonly Policy[] = Object.freeze([])

/** See the header. */
export class TrustKeeper {
  readonly #parts: TrustKeeperParts
  readonly #listeners = new Set<(trust: Trust) => void>()
  /** Hashes of texts already refused, so that each is told once. */
  readonly #refused = new Set<string>()
  readonly #counts = new Map<string, MetricSeries>()
  #kept: KeptTrust | null = null
  #trust: Trust | null = null
  #banList = new BanList(noBans, '' as TrustDomain)
  #problem = ''
  readonly #lane = new Lane()

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

  /** Records refused so far, for metrics. */
  get series(): readonly MetricSeries[] {
    return [...this.#counts.values()]
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
    this.#take(fits ? found : { trustDomain, anchorPem, ...noRecords })
  }

  /** Begins afresh: a token, which an operator brought, pins another beginning. */
  async anchor(trustDomain: TrustDomain, anchorPem: string): Promise<void> {
    this.#refused.clear()
    await this.#save({ trustDomain, anchorPem, ...noRecords })
  }

  /** Takes what is new of these records, in the order in which each vouches for the next. */
  async offer(records: readonly TrustRecord[]): Promise<void> {
    for (const name of names) {
      for (const record of records.filter(({ key }) => key === keys[name])) {
        await this.#lane.run(() => this.#consider(name, record))
      }
    }
  }

  async #consider(name: TrustName, { key, value }: TrustRecord): Promise<void> {
    const [kept, trust] = [this.#kept, this.#trust]
    if (kept === null || trust === null) return
    if (kept[name] === value || this.#refused.has(hashOf(value))) return
    const { roots, trustDomain, epochs } = trust
    const nowMs = this.#parts.clock.now()
    const judged = judgeRecord<unknown>(
      value,
      key,
      { roots: [...roots.values()], trustDomain, nowMs },
      { above: epochs[name], decode: decoders[name] },
    )
    if (judged.ok) await this.#save({ ...kept, [name]: value })
    else this.#refuse(name, value, judged)
  }

  #refuse(
    name: TrustName,
    text: string,
    { reason, problem }: { readonly reason: RecordRefusal; readonly problem: string },
  ): void {
    if (this.#refused.size >= 100) this.#refused.clear()
    this.#refused.add(hashOf(text))
    const at = `${name} ${reason}`
    const {
      metric,
      labels,
      value = 0,
    } = this.#counts.get(at) ?? {
      metric: agentMetrics.trustRecordsRefused.name,
      labels: { record: name, reason },
    }
    this.#counts.set(at, { metric, labels, value: value + 1 })
    this.#parts.logger.warn(
      { key: keys[name], reason, problem },
      'trust record refused; what was known stays in force',
    )
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

/** Texts may be long, and a store full of them must not fill the memory. */
function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64')
}

/** What was checked before it was kept is read again without asking who signed it. */
function trustOf(kept: KeptTrust): Trust {
  const { trustDomain, anchorPem } = kept
  const bundle = keptBody(kept.bundle, decodeBundle)
  const bans = keptBody(kept.bans, decodeBans)
  const policies = keptBody(kept.policies, readPolicies)
  const bundlePem = bundle.body === null ? anchorPem : joinPem(bundle.body.roots)
  return {
    trustDomain,
    bundlePem,
    roots: nameRoots(bundlePem),
    issuing: bundle.body?.issuing ?? null,
    spreadMs: bundle.body?.spreadMs ?? 0,
    bans: bans.body ?? noBans,
    policies: policies.body ?? noPolicies,
    epochs: { bundle: bundle.epoch, bans: bans.epoch, policies: policies.epoch },
  }
}

function keptBody<T>(
  text: string | null,
  decode: (body: string) => Parsed<T>,
): { readonly epoch: number; readonly body: T | null } {
  const record = text === null ? null : splitRecord(text)
  if (record?.ok !== true) return { epoch: 0, body: null }
  const body = decode(record.value.body)
  return { epoch: record.value.epoch, body: body.ok ? body.value : null }
}

/** A policy that this version cannot read makes the whole record wait: no rule is left out unseen. */
function readPolicies(body: string): Parsed<readonly Policy[]> {
  const policies = decodePolicies(body)
  return policies.ok ? readMeshPolicies(policies.value) : policies
}
