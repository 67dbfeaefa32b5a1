/**
 * Owns the trust bundle, the bans and the mesh's policies as this controller publishes them: signed records with an epoch
 * that only grows, kept in a file of its own and put into the store. The store is only how they
 * travel: whatever an old backup brings back there is overwritten with what is known here. What
 * another controller signed later is taken over.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { Lane } from '#shared/lifecycle/lane.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Bans, MeshPolicies, TrustBundle, TrustEpochs } from '#shared/model/trust.ts'
import { noBans } from '#shared/model/trust.ts'
import { readSigner, splitRecord } from '#shared/pki/signed-record.ts'
import type { TrustRecord } from '#shared/rpc/host-messages.ts'
import { encodeTrust } from '#shared/schema/trust.ts'
import type { Entry, KeyValue } from '#shared/store/key-value.ts'
import type { Authority } from './authority.ts'
import type { RefusedRecords } from './refused-records.ts'
import type { TrustEntries, TrustEntry, TrustName } from './trust-entries.ts'
import {
  readStoredEntry,
  saysSame,
  signEntry,
  trustKeys,
  trustNames,
  unionOf,
} from './trust-entries.ts'
import { TrustLedgerFile } from './trust-ledger-file.ts'

/** What a ledger leans on. */
export interface TrustLedgerParts {
  readonly authority: Authority
  readonly store: KeyValue
  readonly clock: Clock
  readonly logger: Logger
  readonly refused: RefusedRecords
  /** Whether this controller is the one that signs anew what another one's signature no longer bears. */
  readonly isLeader: () => boolean
}

/** Settings of a ledger. */
export interface TrustLedgerSettings {
  readonly stateDirectory: string
  /** Over how long hosts spread what a rotation makes them renew. */
  readonly spreadMs: number
  /** How often the store is compared with what is known here. @default 2000 */
  readonly compareMs?: number
}

/** A signer that ends within this long is replaced. */
const signerLeftMs = 30 * 86_400_000
/** Every host holds the list in memory, and a record of more than a megabyte is refused. */
const mostBanCharacters = 512 * 1024
/** Likewise for the policies. */
const mostPolicyCharacters = 512 * 1024
/** How often a write that another controller got ahead of is tried again. */
const tries = 5

/** See the header. */
export class TrustLedger {
  readonly #parts: TrustLedgerParts
  readonly #settings: TrustLedgerSettings
  readonly #listeners = new Set<() => void>()
  readonly #file: TrustLedgerFile
  #entries: TrustEntries
  /** What the store has until it takes what is in force here already. */
  readonly #awaited = new Map<TrustName, string>()
  #timer: Timer | null = null
  readonly #lane = new Lane()
  /** Whether the store was told everything, as far as is known. */
  #problem = ''
  #stopped = false

  private constructor(
    parts: TrustLedgerParts,
    settings: TrustLedgerSettings,
    file: TrustLedgerFile,
    entries: TrustEntries,
  ) {
    this.#parts = parts
    this.#settings = settings
    this.#file = file
    this.#entries = entries
  }

  /** Reads the file, made first where there is none. Throws MeshError `state-…`. */
  static async open(parts: TrustLedgerParts, settings: TrustLedgerSettings): Promise<TrustLedger> {
    const file = new TrustLedgerFile(settings)
    const found = await file.load()
    const { authority } = parts
    const first: TrustEntries = {
      bundle: found.bundle ?? signEntry(authority, 'bundle', 1, firstBundle(authority, settings)),
      bans: found.bans ?? signEntry(authority, 'bans', 1, noBans),
      policies: found.policies ?? signEntry(authority, 'policies', 1, {}),
    }
    const ledger = new TrustLedger(parts, settings, file, first)
    await file.save(first)
    return ledger
  }

  get bundle(): TrustBundle {
    return this.#entries.bundle.body
  }

  get bans(): Bans {
    return this.#entries.bans.body
  }

  get policies(): MeshPolicies {
    return this.#entries.policies.body
  }

  get epochs(): TrustEpochs & { readonly policies: number } {
    const { bundle, bans, policies } = this.#entries
    return { bundle: bundle.epoch, bans: bans.epoch, policies: policies.epoch }
  }

  /** Every record as the store has it. */
  get records(): readonly TrustRecord[] {
    return trustNames.map((name) => ({ key: trustKeys[name], value: this.#entries[name].text }))
  }

  /** Calls back after every change; answers how to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Puts what is known into the store, and goes on comparing. Never rejects. */
  async start(): Promise<void> {
    await this.#compare()
    this.#wait()
  }

  /** The CA has taken a step: what signs may be another. Throws MeshError. */
  refresh(): Promise<void> {
    return this.#lane.run(() => this.#bringUp())
  }

  /** Takes over what others have published. Throws what the store throws. */
  catchUp(): Promise<void> {
    return this.#lane.run(async () => {
      for (const name of trustNames) await this.#adopt(name)
    })
  }

  /**
   * Changes the trust bundle, in force once the store has it. False where it is not that of epoch
   * `seen` any more: others have changed it. Throws what the store throws.
   */
  changeBundle(seen: number, bundle: Omit<TrustBundle, 'spreadMs'>): Promise<boolean> {
    return this.#lane.run(async () => {
      const { authority } = this.#parts
      const { spreadMs } = this.#settings
      const entry = await this.#adopt('bundle')
      const { epoch } = this.#entries.bundle
      if (epoch !== seen) return false
      const next = signEntry(authority, 'bundle', epoch + 1, { ...bundle, spreadMs })
      return this.#set('bundle', entry, next)
    })
  }

  /**
   * Changes the bans; `change` answers the bans to be, or null for no change. In force here once it is
   * on the disk, and for hosts once the store has it, which is tried until it works.
   */
  changeBans(change: (bans: Bans) => Bans | null): Promise<boolean> {
    return this.#lane.run(async () => {
      const seen = await this.#adopt('bans').catch((error: unknown) => this.#trouble(error))
      const { epoch, body } = this.#entries.bans
      const next = change(body)
      if (next === null) return false
      if (encodeTrust(next).length > mostBanCharacters) {
        throw new MeshError('the list of bans would grow too long for every host to hold', {
          code: 'too-many-bans',
          hint: 'lift bans whose certificates have ended: meshctl host list, meshctl host unban',
        })
      }
      if (seen) this.#awaited.set('bans', seen.value)
      await this.#take('bans', signEntry(this.#parts.authority, 'bans', epoch + 1, next))
      await this.#publish('bans').catch((error: unknown) => this.#trouble(error))
      return true
    })
  }

  /**
   * Changes the policies that hold on every host; `change` answers those to be, or null for no change.
   * In force once the store has them. Throws MeshError.
   */
  changePolicies(change: (policies: MeshPolicies) => MeshPolicies | null): Promise<boolean> {
    return this.#lane.run(async () => {
      const { authority } = this.#parts
      for (let left = tries; left > 0; left--) {
        const entry = await this.#adopt('policies')
        const { epoch, body } = this.#entries.policies
        const next = change(body)
        if (next === null) return false
        if (encodeTrust(next).length > mostPolicyCharacters) {
          throw new MeshError('the policies would grow too long for every host to hold', {
            code: 'too-many-policies',
            hint: 'remove some, or keep them in /etc/mesh/policies.d of the hosts concerned',
          })
        }
        const signed = signEntry(authority, 'policies', epoch + 1, next)
        if (await this.#set('policies', entry, signed)) return true
      }
      throw new MeshError('others changed the policies at the same time', {
        code: 'policies-changed',
        retry: true,
      })
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.stop()
    await this.#lane.idle()
  }

  #wait(): void {
    if (this.#stopped) return
    const { compareMs = 2000 } = this.#settings
    this.#timer = this.#parts.clock.after(compareMs, () => {
      void this.#compare().then(() => this.#wait())
    })
  }

  #compare(): Promise<void> {
    return this.#lane.run(async () => {
      try {
        await this.#bringUp()
        if (this.#problem !== '') this.#parts.logger.info('trust records are in the store again')
        this.#problem = ''
      } catch (error) {
        this.#trouble(error)
      }
    })
  }

  #trouble(error: unknown): void {
    const problem = messageOf(error)
    if (problem === this.#problem) return
    this.#problem = problem
    this.#parts.logger.warn({ problem }, 'the store does not have the newest trust records yet')
  }

  /** After a look at what others have said: everything well signed, and in the store. */
  async #bringUp(): Promise<void> {
    const { authority, isLeader } = this.#parts
    for (const name of trustNames) {
      const entry = await this.#adopt(name)
      const own = this.#entries[name]
      const isKeeper = authority.hasRootKey || isLeader()
      const wanted = name === 'bundle' && authority.hasRootKey ? this.#spread() : own.body
      const isNews = wanted !== own.body || (isKeeper && this.#isBadlySigned(own))
      if (isNews) await this.#set(name, entry, signEntry(authority, name, own.epoch + 1, wanted))
      else await this.#publish(name)
    }
  }

  /** The bundle, with the time to spread renewals over as it is set here; the same where it is so. */
  #spread(): TrustBundle {
    const { body } = this.#entries.bundle
    const { spreadMs } = this.#settings
    return body.spreadMs === spreadMs ? body : { ...body, spreadMs }
  }

  #isBadlySigned({ signerPem }: TrustEntry<object>): boolean {
    const { authority, clock } = this.#parts
    if (signerPem === authority.signer.certificatePem) return false
    return !readSigner(signerPem, authority.recordTrust(clock.now() + signerLeftMs)).ok
  }

  /** Takes over what another controller has signed since; answers what stands in the store. */
  async #adopt(name: TrustName): Promise<Entry | null> {
    const { store, clock, authority, refused } = this.#parts
    const key = trustKeys[name]
    const { entry } = await store.get(key)
    const own = this.#entries[name]
    if (entry === null || entry.value === own.text) return entry
    if (entry.value === this.#awaited.get(name)) return entry
    const theirs = readStoredEntry(
      name,
      entry.value,
      authority.recordTrust(clock.now()),
      own.epoch - 1,
    )
    if (!theirs.ok) {
      refused.add(name, key, theirs, entry.value)
      return entry
    }
    const { epoch, body, text } = theirs.value
    const takeOver = (): Promise<void> => this.#take<TrustName>(name, theirs.value)
    if (epoch > own.epoch) await takeOver()
    if (epoch !== own.epoch) return entry
    if (saysSame(theirs.value, own)) {
      // Two have said the same: one of the two texts for all of them.
      if (text < own.text) await takeOver()
      return entry
    }
    switch (name) {
      case 'bundle':
        // Whoever made the root knows better.
        if (!authority.hasRootKey) await takeOver()
        break
      case 'bans': {
        // Two at the same moment: nobody whom either has banned is let in.
        const both = unionOf(this.#entries.bans.body, body as Bans)
        await this.#take('bans', signEntry(authority, 'bans', own.epoch + 1, both))
        break
      }
      case 'policies':
        // Changes are compared and set, so this takes two stores: one text for all of them.
        if (text < own.text) await takeOver()
    }
    return entry
  }

  /** Puts what is known here into the store, unless it is there. */
  async #publish(name: TrustName): Promise<void> {
    for (let left = tries; left > 0; left--) {
      const entry = await this.#adopt(name)
      if (entry?.value === this.#entries[name].text) return
      if (await this.#set(name, entry, this.#entries[name])) return
    }
  }

  /** Puts a record into the store in place of the one seen there; false where it is another by now. */
  async #set<N extends TrustName>(
    name: N,
    seen: Entry | null,
    next: TrustEntries[N],
  ): Promise<boolean> {
    const { store, logger, authority } = this.#parts
    const key = trustKeys[name]
    const before = seen === null ? null : splitRecord(seen.value)
    const found = before?.ok === true ? before.value.epoch : 0
    // Of a root that was made while this controller was away: who holds a root's key never is.
    if (found > this.#entries[name].epoch && !authority.hasRootKey) throw leftBehind()
    const { succeeded } = await store.transact({
      compare: [{ kind: 'mod-revision', key, equals: seen?.modRevision ?? 0 }],
      success: [{ kind: 'put', key, value: next.text }],
    })
    if (!succeeded) return false
    this.#awaited.delete(name)
    logger.info({ key, epoch: next.epoch, found }, 'trust record published')
    if (this.#entries[name] !== next) await this.#take(name, next)
    return true
  }

  async #take<N extends TrustName>(name: N, entry: TrustEntries[N]): Promise<void> {
    const after = { ...this.#entries, [name]: entry }
    await this.#file.save(after)
    this.#entries = after
    for (const listener of this.#listeners) listener()
  }
}

function leftBehind(): MeshError {
  return new MeshError(
    'the mesh has a root that this controller does not know: it was away while the root was replaced',
    { code: 'left-behind', hint: 'admit it anew: docs/operations.md, "Several controllers"' },
  )
}

function firstBundle(
  authority: Authority,
  { spreadMs }: Pick<TrustLedgerSettings, 'spreadMs'>,
): TrustBundle {
  return { ...authority.bundleIn(authority.phase), spreadMs }
}
