/**
 * Owns the calls that wait until a service is looked for, where the snapshot has only those in use: the
 * control process is asked once for each name, and a snapshot that has it, or an answer that it does
 * not come, ends the wait. Bounded in names, calls and time. It finds nothing itself.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import type { NotFound } from '#agent/workers/messages.ts'

/** What came of a wait. */
export type Found = 'found' | NotFound

/** What it leans on. */
export interface LookupsParts {
  readonly clock: Clock
  /** Asks the control process; false: it is away. */
  readonly ask: (service: ServiceName) => boolean
}

/** Settings. */
export interface LookupsSettings {
  /** Longest wait. @default 2000 */
  readonly waitMs?: number
  /** Most names looked for at once. @default 256 */
  readonly mostNames?: number
  /** Most calls that wait at once. @default 4096 */
  readonly mostCalls?: number
}

interface Wanted {
  readonly waiting: Set<(found: Found) => void>
  readonly timer: Timer
}

/** See the header. */
export class Lookups {
  readonly #parts: LookupsParts
  readonly #settings: LookupsSettings
  readonly #wanted = new Map<ServiceName, Wanted>()
  #calls = 0
  #isOnDemand = false

  constructor(parts: LookupsParts, settings: LookupsSettings = {}) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Whether a service that is not in the snapshot may exist. */
  get isOnDemand(): boolean {
    return this.#isOnDemand
  }

  /** Calls that wait now. */
  get waiting(): number {
    return this.#calls
  }

  /** Takes over a snapshot, after everybody else has. */
  apply({ services, onDemand = false }: Snapshot): void {
    this.#isOnDemand = onDemand
    for (const service of this.#wanted.keys()) {
      if (Object.hasOwn(services, service)) this.#settle(service, 'found')
      else if (!onDemand) this.#settle(service, 'unknown')
    }
  }

  /** The control process has not found a service. */
  missed(service: ServiceName, why: NotFound): void {
    this.#settle(service, why)
  }

  /** Looks for a service. `done` is called once, but not before this has returned. */
  look(service: ServiceName, done: (found: Found) => void): void {
    const { clock, ask } = this.#parts
    const { waitMs = 2000, mostNames = 256, mostCalls = 4096 } = this.#settings
    let wanted = this.#wanted.get(service)
    const isNew = wanted === undefined
    if (this.#calls >= mostCalls || (isNew && this.#wanted.size >= mostNames)) {
      queueMicrotask(() => done('overloaded'))
      return
    }
    if (wanted === undefined) {
      const timer = clock.after(waitMs, () => this.#settle(service, 'away'))
      wanted = { waiting: new Set(), timer }
      this.#wanted.set(service, wanted)
    }
    this.#calls += 1
    wanted.waiting.add(done)
    if (isNew && !ask(service)) queueMicrotask(() => this.#settle(service, 'away'))
  }

  /** Nobody waits any more. */
  stop(): void {
    for (const service of this.#wanted.keys()) this.#settle(service, 'away')
  }

  #settle(service: ServiceName, found: Found): void {
    const wanted = this.#wanted.get(service)
    if (wanted === undefined) return
    this.#wanted.delete(service)
    wanted.timer.stop()
    this.#calls -= wanted.waiting.size
    for (const done of wanted.waiting) done(found)
  }
}
