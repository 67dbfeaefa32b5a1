/**
 * Owns the words about connections that confined services were refused: a line in the log whenever
 * there were more, so that whoever wonders why a program gets no answer finds the reason.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'

/** What it leans on. */
export interface EgressWatchParts {
  readonly clock: Clock
  readonly logger: Logger
  /** Connections each service was refused since it was last counted anew. */
  readonly refused: () => Promise<ReadonlyMap<string, number>>
}

/** See the header. */
export class EgressWatch {
  readonly #parts: EgressWatchParts
  readonly #everyMs: number
  #told: ReadonlyMap<string, number> = new Map()
  #timer: Timer | null = null

  /** @param settings - `everyMs`: from one look to the next; default 5000 */
  constructor(parts: EgressWatchParts, { everyMs = 5000 }: { readonly everyMs?: number } = {}) {
    this.#parts = parts
    this.#everyMs = everyMs
  }

  start(): void {
    this.#timer ??= this.#parts.clock.every(this.#everyMs, () => void this.#look())
  }

  stop(): void {
    this.#timer?.stop()
    this.#timer = null
  }

  async #look(): Promise<void> {
    const seen = await this.#parts.refused()
    if (this.#timer === null) return
    for (const [service, count] of seen) {
      const more = count - (this.#told.get(service) ?? 0)
      // Fewer than before: it was counted anew.
      const refused = more < 0 ? count : more
      if (refused > 0) {
        const hint = 'see docs/interception.md, egress'
        this.#parts.logger.warn({ service, refused, hint }, 'connections out of the mesh refused')
      }
    }
    this.#told = seen
  }
}
