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
import type { TrustRecord } from '#shared/rpc/mesh-api.ts'
import { encodeTrust } from '#shared/schema/trust.ts'
import { policiesKey } from '#shared/store/keys.ts'
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
      bundle: found.bundle ?? signEntry(authority, 'bundle', 1, bundleOf(parts, settings)),
      bans: found.bans ?? signEntry(authority, 'bans', 1, noBans),
      policies: found.policies ?? signEntry(authority, 'policies', 1, {}),
    }
    const ledger = new TrustLedger(parts, settings, file, first)
    await file.save(first)
    await ledger.#bringUp()
    return ledger
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

  /** The CA has taken a step: the bundle, and what signs, may be another. Throws MeshError. */
  refresh(): Promise<void> {
    return this.#lane.run(async () => {
      await this.#bringUp()
      for (const name of trustNames) await this.#publish(name)
    })
  }

  /**
   * Changes the bans; `change` answers the bans to be, or null for no change. In force here once it is
   * on the disk, and for hosts once the store has it, which is tried until it works.
   */
  changeBans(change: (bans: Bans) => Bans | null): Promise<boolean> {
    return this.#lane.run(async () => {
      await this.#adopt('bans').catch((error: unknown) => this.#trouble(error))
      const { epoch, body } = this.#entries.bans
      const next = change(body)
      if (next === null) return false
      if (encodeTrust(next).length > mostBanCharacters) {
        throw new MeshError('the list of bans would grow too long for every host to hold', {
          code: 'too-many-bans',
          hint: 'lift bans whose certificates have ended: meshctl host list, meshctl host unban',
        })
      }
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
      const { store, authority, logger } = this.#parts
      const key = policiesKey
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
        const { succeeded } = await store.transact({
          compare: [{ kind: 'mod-revision', key, equals: entry?.modRevision ?? 0 }],
          success: [{ kind: 'put', key, value: signed.text }],
        })
        if (!succeeded) continue
        await this.#take('policies', signed)
        logger.info({ key, epoch: signed.epoch }, 'policies published')
        return true
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
        for (const name of trustNames) {
          await this.#adopt(name)
          await this.#publish(name)
        }
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

  /** What the CA's phase asks for, signed by an issuing CA that is good for a while. */
  async #bringUp(): Promise<void> {
    const { authority } = this.#parts
    const wanted = bundleOf(this.#parts, this.#settings)
    const { bundle, bans, policies } = this.#entries
    const isOld = encodeTrust(bundle.body) !== encodeTrust(wanted) || this.#isBadlySigned(bundle)
    // Of several controllers, the one that made the root says which ones are trusted.
    if (isOld && authority.hasRootKey) {
      await this.#take('bundle', signEntry(authority, 'bundle', bundle.epoch + 1, wanted))
    }
    if (this.#isBadlySigned(bans)) {
      await this.#take('bans', signEntry(authority, 'bans', bans.epoch + 1, bans.body))
    }
    if (this.#isBadlySigned(policies)) {
      await this.#take(
        'policies',
        signEntry(authority, 'policies', policies.epoch + 1, policies.body),
      )
    }
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
    const { store, logger } = this.#parts
    for (let left = tries; left > 0; left--) {
      const key = trustKeys[name]
      const { entry } = await store.get(key)
      const { text, epoch } = this.#entries[name]
      if (entry?.value === text) return
      const before = entry === null ? null : splitRecord(entry.value)
      const { succeeded } = await store.transact({
        compare: [{ kind: 'mod-revision', key, equals: entry?.modRevision ?? 0 }],
        success: [{ kind: 'put', key, value: text }],
      })
      if (succeeded) {
        const found = before?.ok === true ? before.value.epoch : 0
        logger.info({ key, epoch, found }, 'trust record published')
        return
      }
      await this.#adopt(name)
    }
  }

  async #take<N extends TrustName>(name: N, entry: TrustEntries[N]): Promise<void> {
    const after = { ...this.#entries, [name]: entry }
    await this.#file.save(after)
    this.#entries = after
    for (const listener of this.#listeners) listener()
  }
}

function bundleOf(
  { authority }: Pick<TrustLedgerParts, 'authority'>,
  { spreadMs }: Pick<TrustLedgerSettings, 'spreadMs'>,
): TrustBundle {
  return { roots: authority.roots, issuing: authority.issuingRoot, spreadMs }
}
