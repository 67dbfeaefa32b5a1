/**
 * Owns the trust bundle and the bans as this controller publishes them: signed records with an epoch
 * that only grows, kept in a file of its own and put into the store. The store is only how they
 * travel: whatever an old backup brings back there is overwritten with what is known here. What
 * another controller signed later is taken over.
 */

import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Parsed } from '#shared/model/names.ts'
import type { Bans, TrustBundle, TrustEpochs } from '#shared/model/trust.ts'
import { noBans } from '#shared/model/trust.ts'
import { openRecord, readSigner, signRecord, splitRecord } from '#shared/pki/signed-record.ts'
import type { RecordTrust } from '#shared/pki/signed-record.ts'
import type { TrustRecord } from '#shared/rpc/mesh-api.ts'
import { decodeBans, decodeBundle, encodeTrust } from '#shared/schema/trust.ts'
import type { StoreKey } from '#shared/store/keys.ts'
import { bansKey, bundleKey } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { Authority } from './authority.ts'

/** What a ledger leans on. */
export interface TrustLedgerParts {
  readonly authority: Authority
  readonly store: KeyValue
  readonly clock: Clock
  readonly logger: Logger
}

/** Settings of a ledger. */
export interface TrustLedgerSettings {
  readonly stateDirectory: string
  /** Over how long hosts spread what a rotation makes them renew. */
  readonly spreadMs: number
  /** How often the store is compared with what is known here. @default 2000 */
  readonly compareMs?: number
}

interface Entry<Body> {
  readonly epoch: number
  readonly body: Body
  readonly text: string
  readonly signerPem: string
}

interface Entries {
  readonly bundle: Entry<TrustBundle>
  readonly bans: Entry<Bans>
}

type Name = keyof Entries

const keys: Readonly<Record<Name, StoreKey>> = { bundle: bundleKey, bans: bansKey }
const decoders: {
  readonly [N in Name]: (text: string) => Parsed<Entries[N]['body']>
} = { bundle: decodeBundle, bans: decodeBans }
const format = 1
/** A signer that ends within this long is replaced. */
const signerLeftMs = 30 * 86_400_000
/** Every host holds the list in memory, and a record of more than a megabyte is refused. */
const mostBanCharacters = 512 * 1024
/** How often a write that another controller got ahead of is tried again. */
const tries = 5

/** See the header. */
export class TrustLedger {
  readonly #parts: TrustLedgerParts
  readonly #settings: TrustLedgerSettings
  readonly #listeners = new Set<() => void>()
  #entries: Entries
  #timer: Timer | null = null
  #work: Promise<unknown> = Promise.resolve()
  /** Whether the store was told everything, as far as is known. */
  #problem = ''
  #stopped = false

  private constructor(parts: TrustLedgerParts, settings: TrustLedgerSettings, entries: Entries) {
    this.#parts = parts
    this.#settings = settings
    this.#entries = entries
  }

  /** Reads the file, made first where there is none. Throws MeshError `state-…`. */
  static async open(parts: TrustLedgerParts, settings: TrustLedgerSettings): Promise<TrustLedger> {
    const found = await readLedger(pathOf(settings))
    const first: Entries = {
      bundle: found.bundle ?? sign(parts.authority, 'bundle', 1, bundleOf(parts, settings)),
      bans: found.bans ?? sign(parts.authority, 'bans', 1, noBans),
    }
    const ledger = new TrustLedger(parts, settings, first)
    await ledger.#save(first)
    await ledger.#bringUp()
    return ledger
  }

  get bans(): Bans {
    return this.#entries.bans.body
  }

  get epochs(): TrustEpochs {
    const { bundle, bans } = this.#entries
    return { bundle: bundle.epoch, bans: bans.epoch }
  }

  /** Both records as the store has them. */
  get records(): readonly TrustRecord[] {
    const { bundle, bans } = this.#entries
    return [
      { key: keys.bundle, value: bundle.text },
      { key: keys.bans, value: bans.text },
    ]
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
    return this.#inOrder(async () => {
      await this.#bringUp()
      await this.#publish('bundle')
      await this.#publish('bans')
    })
  }

  /**
   * Changes the bans; `change` answers the bans to be, or null for no change. In force here once it is
   * on the disk, and for hosts once the store has it, which is tried until it works.
   */
  changeBans(change: (bans: Bans) => Bans | null): Promise<boolean> {
    return this.#inOrder(async () => {
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
      await this.#take('bans', sign(this.#parts.authority, 'bans', epoch + 1, next))
      await this.#publish('bans').catch((error: unknown) => this.#trouble(error))
      return true
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.stop()
    await this.#work
  }

  #inOrder<T>(run: () => Promise<T>): Promise<T> {
    const done = this.#work.then(run)
    this.#work = done.catch(() => {})
    return done
  }

  #wait(): void {
    if (this.#stopped) return
    const { compareMs = 2000 } = this.#settings
    this.#timer = this.#parts.clock.after(compareMs, () => {
      void this.#compare().then(() => this.#wait())
    })
  }

  #compare(): Promise<void> {
    return this.#inOrder(async () => {
      try {
        await this.#bringUp()
        for (const name of ['bundle', 'bans'] as const) {
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
    const { bundle, bans } = this.#entries
    const isOld = encodeTrust(bundle.body) !== encodeTrust(wanted) || this.#isBadlySigned(bundle)
    // Of several controllers, the one that made the root says which ones are trusted.
    if (isOld && authority.hasRootKey) {
      await this.#take('bundle', sign(authority, 'bundle', bundle.epoch + 1, wanted))
    }
    if (this.#isBadlySigned(bans)) {
      await this.#take('bans', sign(authority, 'bans', bans.epoch + 1, bans.body))
    }
  }

  #isBadlySigned({ signerPem }: Entry<unknown>): boolean {
    const { authority, clock } = this.#parts
    if (signerPem === authority.signer.certificatePem) return false
    return !readSigner(signerPem, this.#trust(clock.now() + signerLeftMs)).ok
  }

  #trust(nowMs: number): RecordTrust {
    const { authority } = this.#parts
    const roots = authority.roots.map((pem) => new X509Certificate(pem))
    return { roots, trustDomain: authority.trustDomain, nowMs }
  }

  /** Takes over what another controller has signed since. */
  async #adopt(name: Name): Promise<void> {
    const { store, clock, authority } = this.#parts
    const { entry } = await store.get(keys[name])
    const own = this.#entries[name]
    if (entry === null || entry.value === own.text) return
    const theirs = readEntry(name, entry.value, this.#trust(clock.now()))
    if (!theirs.ok) return
    const { epoch, body, text } = theirs.value
    const takeOver = (): Promise<void> => this.#take<Name>(name, theirs.value)
    if (epoch > own.epoch) await takeOver()
    if (epoch !== own.epoch) return
    if (encodeTrust(body) === encodeTrust(own.body)) {
      // Two have said the same: one of the two texts for all of them.
      if (text < own.text) await takeOver()
    } else if (name === 'bundle') {
      // Whoever made the root knows better.
      if (!authority.hasRootKey) await takeOver()
    } else {
      // Two at the same moment: nobody whom either has banned is let in.
      const both = union(this.#entries.bans.body, body as Bans)
      await this.#take('bans', sign(authority, 'bans', own.epoch + 1, both))
    }
  }

  /** Puts what is known here into the store, unless it is there. */
  async #publish(name: Name): Promise<void> {
    const { store, logger } = this.#parts
    for (let left = tries; left > 0; left--) {
      const key = keys[name]
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

  async #take<N extends Name>(name: N, entry: Entries[N]): Promise<void> {
    const after = { ...this.#entries, [name]: entry }
    await this.#save(after)
    this.#entries = after
    for (const listener of this.#listeners) listener()
  }

  async #save({ bundle, bans }: Entries): Promise<void> {
    const path = pathOf(this.#settings)
    const file = { format, bundle: bundle.text, bans: bans.text }
    try {
      await writeFileAtomic(path, `${JSON.stringify(file, null, 2)}\n`)
    } catch (error) {
      throw new MeshError(`cannot write ${path}: ${messageOf(error)}`, {
        code: 'state-unwritable',
        hint: 'mesh-controller must run as the user that owns its state directory, with space on the disk',
        cause: error,
      })
    }
  }
}

function pathOf({ stateDirectory }: TrustLedgerSettings): string {
  return join(stateDirectory, 'trust.json')
}

function bundleOf(
  { authority }: Pick<TrustLedgerParts, 'authority'>,
  { spreadMs }: Pick<TrustLedgerSettings, 'spreadMs'>,
): TrustBundle {
  return { roots: authority.roots, issuing: authority.issuingRoot, spreadMs }
}

function sign<N extends Name>(
  authority: Authority,
  name: N,
  epoch: number,
  body: Entries[N]['body'],
): Entries[N] {
  const { signer } = authority
  const text = signRecord(signer, { key: keys[name], epoch, body: encodeTrust(body) })
  return { epoch, body, text, signerPem: signer.certificatePem } as Entries[N]
}

function readEntry<N extends Name>(
  name: N,
  text: string,
  trust: RecordTrust | null,
): Parsed<Entries[N]> {
  const record = trust === null ? splitRecord(text) : openRecord(text, keys[name], trust)
  if (!record.ok) return record
  const body = decoders[name](record.value.body)
  if (!body.ok) return body
  const { epoch, signerPem } = record.value
  return { ok: true, value: { epoch, body: body.value, text, signerPem } as Entries[N] }
}

/** What is on our own disk needs no signature to be believed. */
async function readLedger(path: string): Promise<Partial<Entries>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw damaged(path, messageOf(error))
  }
  let file: Readonly<Record<string, unknown>>
  try {
    file = (JSON.parse(text) ?? {}) as Readonly<Record<string, unknown>>
  } catch {
    throw damaged(path, 'it is not JSON')
  }
  if (typeof file['format'] === 'number' && file['format'] > format) {
    throw new MeshError(`${path} is of format ${file['format']}; this version reads ${format}`, {
      code: 'state-from-newer-version',
      hint: 'run the newer mesh-controller that wrote it, or name another state directory',
    })
  }
  const bundle = readEntry('bundle', String(file['bundle']), null)
  const bans = readEntry('bans', String(file['bans']), null)
  if (!bundle.ok) throw damaged(path, bundle.problem)
  if (!bans.ok) throw damaged(path, bans.problem)
  return { bundle: bundle.value, bans: bans.value }
}

function damaged(path: string, why: string): MeshError {
  return new MeshError(`${path} is damaged: ${why}`, {
    code: 'state-damaged',
    hint: 'restore the state directory from a backup; without this file bans would be forgotten',
  })
}

function union(one: Bans, other: Bans): Bans {
  return {
    hosts: { ...one.hosts, ...other.hosts },
    serials: { ...one.serials, ...other.serials },
  }
}
