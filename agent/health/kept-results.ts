/**
 * Owns the results of push checks on the disk, in the run directory: after a restart of the agent each
 * still counts for the time it has left, after a reboot none does. Whether one counts is judged by who
 * brought it to whom and when; what it means is the board's matter.
 */

import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { Gathering } from '#shared/lifecycle/gathering.ts'
import { Lane } from '#shared/lifecycle/lane.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { CheckOutcome } from '#shared/model/health-check.ts'
import { parseServiceName, type ServiceName } from '#shared/model/names.ts'
import type { CheckResult } from './check-rules.ts'

/** Collaborators. */
export interface KeptResultsParts {
  readonly clock: Clock
  readonly logger: Logger
}

/** What a result was brought to. */
export interface ResultSubject {
  readonly service: ServiceName
  /** The name of the check. */
  readonly check: string
  /** The local user whose manifest has it; null for the administrator's. */
  readonly owner: string | null
  /** Where the service listens. */
  readonly address: string
  readonly port: number
}

/** A result that still counts. */
export interface StandingResult extends CheckResult {
  /** Milliseconds. */
  readonly leftMs: number
}

interface Kept extends ResultSubject, CheckResult {
  /** When it was brought, milliseconds since the epoch: the next process has another monotonic clock. */
  readonly atMs: number
}

const mostResults = 10_000
/** What comes within this long is written once. */
const gatherMs = 200
/** The longest that any result may count (`ttlMs`). */
const longestMs = 86_400_000
const outcomes: ReadonlySet<unknown> = new Set<CheckOutcome>(['pass', 'warn', 'fail'])

/** See the header. */
export class KeptResults {
  readonly #parts: KeptResultsParts
  readonly #path: string
  /** The one brought longest ago first. */
  readonly #kept = new Map<string, Kept>()
  readonly #changed: Gathering
  readonly #lane = new Lane()
  #isNews = false
  #isQueued = false
  #problem = ''

  constructor(parts: KeptResultsParts, settings: { readonly runDirectory: string }) {
    this.#parts = parts
    this.#path = `${settings.runDirectory}/pushed-health.json`
    this.#changed = new Gathering({ clock: parts.clock, run: () => this.#queue() }, { gatherMs })
  }

  /** Takes over what an earlier run kept. Never rejects: what cannot be read is told and left aside. */
  async load(): Promise<void> {
    try {
      const all: unknown = JSON.parse(await readFile(this.#path, 'utf8'))
      if (!Array.isArray(all)) throw new Error('it is no list')
      const good = all.slice(-mostResults).flatMap((one: unknown) => keptOf(one) ?? [])
      for (const one of good) this.#kept.set(keyOf(one.service, one.check), one)
      if (good.length < all.length) throw new Error(`${all.length - good.length} are damaged`)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      const fields = { path: this.#path, problem: messageOf(error) }
      this.#parts.logger.warn(fields, 'results of push checks from before the start are left aside')
    }
  }

  /** What was brought last to exactly that, if a result of `ttlMs` still counts; else null. */
  standing(subject: ResultSubject, ttlMs: number): StandingResult | null {
    const kept = this.#kept.get(keyOf(subject.service, subject.check))
    if (kept === undefined || !isSameSubject(kept, subject)) return null
    const ageMs = this.#parts.clock.now() - kept.atMs
    // From the future: the clock was set, and nobody knows how old it is.
    if (ageMs < 0 || ageMs >= ttlMs) return null
    return { outcome: kept.outcome, detail: kept.detail, leftMs: ttlMs - ageMs }
  }

  /** Keeps a result that is brought now; it is on the disk a moment later. */
  keep(subject: ResultSubject, { outcome, detail }: CheckResult): void {
    const key = keyOf(subject.service, subject.check)
    this.#kept.delete(key)
    this.#kept.set(key, { ...subject, outcome, detail, atMs: this.#parts.clock.now() })
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= mostResults) break
      this.#kept.delete(oldest)
    }
    this.#onChange()
  }

  /** The check is no more, or is about something else. */
  forget(service: ServiceName, check: string): void {
    if (this.#kept.delete(keyOf(service, check))) this.#onChange()
  }

  /** Resolves when all of it is on the disk; nothing is written any more. */
  async stop(): Promise<void> {
    this.#changed.stop()
    if (this.#isNews) this.#queue()
    await this.#lane.idle()
  }

  #onChange(): void {
    this.#isNews = true
    this.#changed.ask()
  }

  /** One writing waits for the one under way at most: it writes what there is by then. */
  #queue(): void {
    if (this.#isQueued) return
    this.#isQueued = true
    void this.#lane.run(() => this.#write())
  }

  async #write(): Promise<void> {
    const { clock, logger } = this.#parts
    this.#isQueued = false
    this.#isNews = false
    const now = clock.now()
    for (const [key, { atMs }] of this.#kept) if (now - atMs >= longestMs) this.#kept.delete(key)
    try {
      await writeFileAtomic(this.#path, `${JSON.stringify([...this.#kept.values()])}\n`)
      this.#problem = ''
    } catch (error) {
      const problem = messageOf(error)
      if (problem === this.#problem) return
      this.#problem = problem
      const fields = { path: this.#path, problem }
      logger.error(fields, 'results of push checks are not kept over a restart')
    }
  }
}

/** Neither name has a space in it. */
function keyOf(service: ServiceName, check: string): string {
  return `${service} ${check}`
}

function isSameSubject(a: ResultSubject, b: ResultSubject): boolean {
  return a.owner === b.owner && a.address === b.address && a.port === b.port
}

function keptOf(raw: unknown): Kept | null {
  if (typeof raw !== 'object' || raw === null) return null
  const { service, check, owner, address, port, outcome, detail, atMs } = raw as Readonly<
    Record<string, unknown>
  >
  const name = typeof service === 'string' ? parseServiceName(service) : null
  return name?.ok === true &&
    typeof check === 'string' &&
    (owner === null || typeof owner === 'string') &&
    typeof address === 'string' &&
    typeof port === 'number' &&
    outcomes.has(outcome) &&
    typeof detail === 'string' &&
    typeof atMs === 'number'
    ? {
        service: name.value,
        check,
        owner,
        address,
        port,
        outcome: outcome as CheckOutcome,
        detail,
        atMs,
      }
    : null
}
