/**
 * Owns the journal of certificates in the store: what was issued, to which host, by which controller,
 * and when it ends. It is written beside the issuing, never before it: a store that is full or away
 * costs the journal a gap, which is logged, and nobody a certificate. Entries are kept for a week
 * after their certificate has ended, and at most so many of them.
 */

import { Backoff } from '#shared/lifecycle/backoff.ts'
import type { Clock, Random, Timer } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import { issuedKey, issuedPrefix } from '#shared/store/keys.ts'
import type { KeyValue, Operation } from '#shared/store/key-value.ts'
import type { IssuedFacts } from './authority.ts'

/** One entry. */
export interface JournalEntry extends IssuedFacts {
  /** Milliseconds since the epoch. */
  readonly issuedAtMs: number
  /** The controller that signed. */
  readonly controller: string
}

/** What it leans on. */
export interface JournalParts {
  readonly store: KeyValue
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Whether this controller is the one that tidies. */
  readonly isLeader: () => boolean
}

/** Its settings. */
export interface JournalSettings {
  readonly controller: HostName
  /** Entries kept; the first to end go first. @default 100_000 */
  readonly maxEntries?: number
  /** Entries that wait for the store. @default 10_000 */
  readonly maxWaiting?: number
}

/** Which entries are asked for. */
export interface JournalQuery {
  /** Of one host; empty for all. */
  readonly host: string
  /** Also of certificates that have ended. */
  readonly ended: boolean
  readonly limit: number
}

const atOnce = 100
/** A store may come later than its controller, and be away for a moment. */
const failuresTold = 5
const keptMs = 7 * 86_400_000
const sweepEveryMs = 3_600_000

/** See the header. */
export class Journal {
  readonly #parts: JournalParts
  readonly #settings: JournalSettings
  readonly #backoff: Backoff
  readonly #sweeping: Timer
  #waiting: JournalEntry[] = []
  #lost = 0
  #failures = 0
  #timer: Timer | null = null
  #writing: Promise<void> | null = null
  #stopped = false

  constructor(parts: JournalParts, settings: JournalSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#backoff = new Backoff(parts, { firstMs: 500, lastMs: 30_000 })
    this.#sweeping = parts.clock.every(sweepEveryMs, () => {
      if (parts.isLeader()) void this.sweep()
    })
  }

  /** Entries that were dropped because the store took none for too long. */
  get lost(): number {
    return this.#lost
  }

  /** Remembers a certificate, as soon as the store lets it. */
  record(facts: IssuedFacts): void {
    const { controller, maxWaiting = 10_000 } = this.#settings
    if (this.#waiting.length >= maxWaiting) {
      this.#lost += 1
      return
    }
    this.#waiting.push({ ...facts, issuedAtMs: this.#parts.clock.now(), controller })
    this.#write()
  }

  /** The entries asked for, the first to end first, and whether there are more. */
  async list(
    query: JournalQuery,
  ): Promise<{ readonly entries: readonly JournalEntry[]; readonly more: boolean }> {
    await this.#writing
    const { entries } = await this.#parts.store.list(issuedPrefix)
    const now = this.#parts.clock.now()
    const wanted = entries
      .flatMap(({ value }) => decode(value) ?? [])
      .filter((entry) => query.ended || entry.notAfterMs > now)
      .filter((entry) => query.host === '' || entry.host === query.host)
    return { entries: wanted.slice(0, query.limit), more: wanted.length > query.limit }
  }

  /** Forgets what has ended long ago, and what is too much. Never rejects. */
  async sweep(): Promise<void> {
    const { store, clock, logger } = this.#parts
    const { maxEntries = 100_000 } = this.#settings
    try {
      const { entries } = await store.list(issuedPrefix)
      const before = issuedKey(clock.now() - keptMs, '')
      const old = entries.filter(({ key }, at) => key < before || at < entries.length - maxEntries)
      for (let at = 0; at < old.length; at += atOnce) {
        const success = old
          .slice(at, at + atOnce)
          .map(({ key }): Operation => ({ kind: 'delete', key }))
        await store.transact({ compare: [], success })
      }
    } catch (error) {
      logger.warn({ reason: messageOf(error) }, 'the journal of certificates was not tidied')
    }
  }

  /** Writes what waits, if the store lets it. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.stop()
    this.#sweeping.stop()
    await this.#writing
  }

  #write(): void {
    if (this.#writing !== null || this.#stopped) return
    this.#timer?.stop()
    this.#writing = this.#writeAll().finally(() => {
      this.#writing = null
    })
  }

  async #writeAll(): Promise<void> {
    const { store, clock, logger } = this.#parts
    try {
      while (this.#waiting.length > 0) {
        const batch = this.#waiting.slice(0, atOnce)
        const success = batch.map((entry): Operation => ({
          kind: 'put',
          key: issuedKey(entry.notAfterMs, entry.serial),
          value: JSON.stringify(entry),
        }))
        await store.transact({ compare: [], success })
        this.#waiting = this.#waiting.slice(batch.length)
        this.#backoff.reset()
        this.#failures = 0
      }
    } catch (error) {
      this.#failures += 1
      if (this.#failures === failuresTold) {
        const fields = { reason: messageOf(error), waiting: this.#waiting.length }
        logger.warn(fields, 'the journal of certificates cannot be written; issuing goes on')
      }
      if (this.#stopped) return
      this.#timer = clock.after(this.#backoff.nextMs(), () => this.#write())
    }
  }
}

function decode(text: string): JournalEntry | null {
  try {
    return JSON.parse(text) as JournalEntry
  } catch {
    return null
  }
}
