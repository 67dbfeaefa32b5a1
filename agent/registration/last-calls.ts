/**
 * Owns what is still open to instances that leave: asks the workers for it again and again, and says
 * once that nothing reaches an instance any more. Whether it may go before its time is not decided here.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { ServiceName } from '#shared/model/names.ts'

/** Requests and connections open by service; null where not every worker has told. */
export type Carried = ReadonlyMap<string, number> | null

/** What it leans on. */
export interface LastCallsParts {
  readonly clock: Clock
  /** `WorkerHub.collect` answers it. Never rejects. */
  readonly ask: () => Promise<Carried>
  /** Nothing reaches these services, which take nothing new. */
  readonly onQuiet: (services: readonly ServiceName[]) => void
}

interface Leaving {
  readonly takesNew: boolean
  /** When last asked; null: not known. */
  open: number | null
  /** Answers in a row by which nothing was open, since it takes nothing new. */
  quietLooks: number
}

const everyMs = 200
/** Asking takes at most this part of the time: a busy host has much to count. */
const share = 20
/** What was on its way at the first look has arrived by the second. */
const enoughLooks = 2

/** See the header. */
export class LastCalls {
  readonly #parts: LastCallsParts
  #leaving: ReadonlyMap<ServiceName, Leaving> = new Map()
  #timer: Timer | null = null
  #asking = false

  constructor(parts: LastCallsParts) {
    this.#parts = parts
  }

  /** What is open to a service that leaves; null while that is not known. */
  openTo(service: ServiceName): number | null {
    return this.#leaving.get(service)?.open ?? null
  }

  /** Who leaves now, and whether it still takes new calls. */
  watch(leaving: ReadonlyMap<ServiceName, { readonly takesNew: boolean }>): void {
    const before = this.#leaving
    this.#leaving = new Map(
      Array.from(leaving, ([service, { takesNew }]) => {
        const known = before.get(service)
        const same = known?.takesNew === takesNew
        return [service, same ? known : { takesNew, open: known?.open ?? null, quietLooks: 0 }]
      }),
    )
    this.#wait(everyMs)
  }

  /** Asks nobody any more. */
  stop(): void {
    this.watch(new Map())
  }

  #wait(ms: number): void {
    if (this.#leaving.size === 0) {
      this.#timer?.stop()
      this.#timer = null
    } else if (!this.#asking) this.#timer ??= this.#parts.clock.after(ms, () => void this.#look())
  }

  async #look(): Promise<void> {
    const { clock, ask, onQuiet } = this.#parts
    const asked = this.#leaving
    const startedAt = clock.elapsed()
    this.#timer = null
    this.#asking = true
    const carried = await ask()
    this.#asking = false
    const quiet: ServiceName[] = []
    for (const [service, leaving] of asked) {
      // Whoever changed meanwhile is asked about again.
      if (this.#leaving.get(service) !== leaving) continue
      leaving.open = carried === null ? null : (carried.get(service) ?? 0)
      leaving.quietLooks = leaving.open === 0 && !leaving.takesNew ? leaving.quietLooks + 1 : 0
      if (leaving.quietLooks === enoughLooks) quiet.push(service)
    }
    if (quiet.length > 0) onQuiet(quiet)
    this.#wait(Math.max(everyMs, (clock.elapsed() - startedAt) * share))
  }
}
