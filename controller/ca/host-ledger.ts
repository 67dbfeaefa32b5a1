/**
 * Owns what hosts may do, as controllers decide it: a signed record for each host, with an epoch that
 * only grows. Each controller remembers the newest on its own disk; the store is how they travel.
 * What an old store brings back is refused and overwritten. It decides nothing about hosts itself.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { Lane } from '#shared/lifecycle/lane.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import type { HostRecord } from '#shared/model/records.ts'
import { judgeRecord, readSigner, signRecord, splitRecord } from '#shared/pki/signed-record.ts'
import { decodeHost, encodeRecord } from '#shared/schema/records.ts'
import { hostKey, hostsPrefix, parseMeshKey } from '#shared/store/keys.ts'
import type { Entry, KeyValue, Transaction } from '#shared/store/key-value.ts'
import type { Authority } from './authority.ts'
import type { KeptHost } from './host-ledger-file.ts'
import { HostLedgerFile } from './host-ledger-file.ts'
import type { RefusedRecords } from './refused-records.ts'

/** What a ledger leans on. */
export interface HostLedgerParts {
  readonly authority: Pick<Authority, 'signer' | 'roots' | 'recordTrust'>
  readonly store: KeyValue
  readonly clock: Clock
  readonly logger: Logger
  readonly refused: RefusedRecords
  /** Whether this controller is the one that signs anew what another one's signature no longer bears. */
  readonly isLeader: () => boolean
}

/** Settings of a ledger. */
export interface HostLedgerSettings {
  readonly stateDirectory: string
  /** How often the whole store is compared with what is known here. @default 30_000 */
  readonly compareMs?: number
}

/** What came of a change. */
export type HostChange =
  | { readonly kind: 'done'; readonly record: HostRecord }
  /** Somebody else was first, with this host or with what else was compared. */
  | { readonly kind: 'raced' }
  /** Nothing was to be changed. */
  | { readonly kind: 'declined' }

interface Known extends KeptHost {
  /** As it stands in the store; null where it has to be signed first. */
  readonly text: string | null
}

/** A signer that ends within this long is replaced. */
const signerLeftMs = 30 * 86_400_000
/** Changes of the disk and of the store go in pieces of this many. */
const atOnce = 100
const nothingElse: Transaction = { compare: [], success: [] }

/** See the header. */
export class HostLedger {
  readonly #parts: HostLedgerParts
  readonly #settings: HostLedgerSettings
  readonly #file: HostLedgerFile
  readonly #lane = new Lane()
  readonly #known: Map<HostName, Known>
  #timer: Timer | null = null
  #problem = ''
  #comparing: Promise<void> = Promise.resolve()
  #stopped = false

  private constructor(
    parts: HostLedgerParts,
    settings: HostLedgerSettings,
    file: HostLedgerFile,
    known: Map<HostName, Known>,
  ) {
    this.#parts = parts
    this.#settings = settings
    this.#file = file
    this.#known = known
  }

  /** Reads what was known. Throws MeshError `state-…`. */
  static async open(parts: HostLedgerParts, settings: HostLedgerSettings): Promise<HostLedger> {
    const file = new HostLedgerFile(settings)
    const kept = await file.load()
    const known = new Map([...kept].map(([host, one]) => [host, { ...one, text: null }] as const))
    return new HostLedger(parts, settings, file, known)
  }

  /** Compares the store with what is known, and goes on doing so. Never rejects. */
  async start(): Promise<void> {
    await this.compare()
    this.#wait()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.stop()
    await this.#comparing
    await this.#lane.idle()
  }

  /** The newest record known, without a look at the store. */
  find(host: HostName): HostRecord | null {
    return this.#known.get(host)?.record ?? null
  }

  /** The newest record there is, after a look at the store. Throws what the store throws. */
  async read(host: HostName): Promise<HostRecord | null> {
    await this.#settle(host)
    return this.find(host)
  }

  /** The newest record of every host by name, after a look at the store. Throws what the store throws. */
  async readAll(): Promise<readonly HostRecord[]> {
    await this.#lookAtAll()
    return [...this.#known.values()]
      .map(({ record }) => record)
      .toSorted((a, b) => (a.host < b.host ? -1 : 1))
  }

  /**
   * Writes the record of a host, together with what `also` asks for or not at all. `next` answers the
   * record to be, from the newest there is, or null for no change. Throws what the store throws.
   */
  async change(
    host: HostName,
    next: (record: HostRecord | null) => HostRecord | null,
    also: Transaction = nothingElse,
  ): Promise<HostChange> {
    const key = hostKey(host)
    const entry = await this.#settle(host)
    const known = this.#known.get(host)
    const record = next(known?.record ?? null)
    if (record === null) return { kind: 'declined' }
    const epoch = (known?.epoch ?? 0) + 1
    const text = this.#sign({ epoch, record })
    const { succeeded } = await this.#parts.store.transact({
      compare: [{ kind: 'mod-revision', key, equals: entry?.modRevision ?? 0 }, ...also.compare],
      success: [{ kind: 'put', key, value: text }, ...also.success],
    })
    if (!succeeded) return { kind: 'raced' }
    await this.#take([{ epoch, record, text }])
    return { kind: 'done', record }
  }

  /** One comparison of the whole store with what is known. Never rejects. */
  async compare(): Promise<void> {
    try {
      await this.#lookAtAll()
      if (this.#parts.isLeader()) await this.#signAnew()
      if (this.#problem !== '') this.#parts.logger.info('host records are in the store again')
      this.#problem = ''
    } catch (error) {
      const problem = messageOf(error)
      if (problem === this.#problem) return
      this.#problem = problem
      this.#parts.logger.warn({ problem }, 'the store may not have the newest host records')
    }
  }

  #wait(): void {
    if (this.#stopped) return
    this.#timer = this.#parts.clock.after(this.#settings.compareMs ?? 30_000, () => {
      this.#comparing = this.compare().then(() => this.#wait())
    })
  }

  /** Brings one host and its record in the store together; answers what stands there then. */
  async #settle(host: HostName): Promise<Entry | null> {
    const { store } = this.#parts
    const key = hostKey(host)
    for (;;) {
      const before = this.#known.get(host)
      const { entry } = await store.get(key)
      // What is newer by now makes what was read old, but not wrong.
      if (this.#known.get(host) !== before) continue
      const newer = this.#weigh(host, entry)
      if (newer !== null) await this.#take([newer])
      if (newer !== null || !this.#isMissing(host, entry)) return entry
      if (!(await this.#publish(host, entry))) continue
      return (await store.get(key)).entry
    }
  }

  async #lookAtAll(): Promise<void> {
    const before = new Map(this.#known)
    const { entries } = await this.#parts.store.list(hostsPrefix)
    const found = new Map<HostName, Entry>()
    for (const entry of entries) {
      const at = parseMeshKey(entry.key)
      if (at.ok && at.value.kind === 'host') found.set(at.value.host, entry)
    }
    let newer: Known[] = []
    for (const [host, entry] of found) {
      if (this.#known.get(host) !== before.get(host)) continue
      const one = this.#weigh(host, entry)
      if (one !== null) newer.push(one)
      if (newer.length < atOnce) continue
      await this.#take(newer)
      newer = []
    }
    await this.#take(newer)
    for (const [host, known] of before) {
      const entry = found.get(host) ?? null
      if (this.#known.get(host) === known && this.#isMissing(host, entry)) {
        await this.#publish(host, entry)
      }
    }
  }

  /** What an entry tells that is new; what it tells that does not count is refused. */
  #weigh(host: HostName, entry: Entry | null): Known | null {
    const { clock, authority, refused } = this.#parts
    const known = this.#known.get(host)
    if (entry === null || entry.value === known?.text) return null
    const split = splitRecord(entry.value)
    const isAsNew = split.ok && split.value.epoch === known?.epoch
    const own = known === undefined ? '' : encodeRecord(known.record)
    if (known !== undefined && isAsNew && split.value.body === own) {
      // The same, signed by another controller or before a restart.
      this.#known.set(host, { ...known, text: entry.value })
      return null
    }
    const judged = judgeRecord(entry.value, entry.key, authority.recordTrust(clock.now()), {
      // Two controllers have said two things at one epoch, each in another store: one holds for both.
      above: isAsNew && split.value.body < own ? split.value.epoch - 1 : (known?.epoch ?? 0),
      decode: decodeHost,
    })
    if (judged.ok && judged.value.decoded.host === host) {
      const { epoch, decoded: record } = judged.value
      return { epoch, record, text: entry.value }
    }
    const reason = judged.ok ? 'malformed' : judged.reason
    const problem = judged.ok ? 'it names another host than its key' : judged.problem
    refused.add('host', entry.key, { reason, problem }, entry.value)
    return null
  }

  /** Whether the store lacks what is known. */
  #isMissing(host: HostName, entry: Entry | null): boolean {
    const known = this.#known.get(host)
    return known !== undefined && entry?.value !== known.text
  }

  /** Puts what is known into the store, unless somebody else has just put something. */
  async #publish(host: HostName, entry: Entry | null): Promise<boolean> {
    const known = this.#known.get(host)
    if (known === undefined) return true
    const key = hostKey(host)
    const text = known.text ?? this.#sign(known)
    const { succeeded } = await this.#parts.store.transact({
      compare: [{ kind: 'mod-revision', key, equals: entry?.modRevision ?? 0 }],
      success: [{ kind: 'put', key, value: text }],
    })
    if (!succeeded) return false
    if (this.#known.get(host) === known) this.#known.set(host, { ...known, text })
    this.#parts.logger.info({ key, epoch: known.epoch }, 'host record published again')
    return true
  }

  /** What was signed under a root that is gone would mean nothing to a controller that is new. */
  async #signAnew(): Promise<void> {
    const trust = this.#parts.authority.recordTrust(this.#parts.clock.now() + signerLeftMs)
    const good = new Map<string, boolean>()
    for (const [host, known] of this.#known) {
      const split = known.text === null ? null : splitRecord(known.text)
      if (known.text === null || split?.ok !== true) continue
      const { signerPem } = split.value
      const isGood = good.get(signerPem) ?? readSigner(signerPem, trust).ok
      good.set(signerPem, isGood)
      if (isGood || this.#known.get(host) !== known) continue
      const { entry } = await this.#parts.store.get(hostKey(host))
      if (entry?.value !== known.text) continue
      this.#known.set(host, { ...known, text: null })
      await this.#publish(host, entry)
    }
  }

  #sign({ epoch, record }: KeptHost): string {
    const { signer } = this.#parts.authority
    return signRecord(signer, { key: hostKey(record.host), epoch, body: encodeRecord(record) })
  }

  /** What cannot be written to the disk counts all the same, and is told. */
  async #take(changes: readonly Known[]): Promise<void> {
    const fresh = changes.filter(({ epoch, record: { host } }) => {
      return epoch >= (this.#known.get(host)?.epoch ?? 0)
    })
    if (fresh.length === 0) return
    for (const known of fresh) this.#known.set(known.record.host, known)
    try {
      await this.#lane.run(() => this.#file.add(fresh, this.#known))
    } catch (error) {
      this.#parts.logger.error({ err: error }, 'what hosts may do was not written to the disk')
    }
  }
}
