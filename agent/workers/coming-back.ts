/**
 * Owns the first seconds of a control process: workers that have served since before it began look for
 * it, and until they have had time to find it nobody knows which there are.
 */

import type { Timer } from '#shared/lifecycle/clock.ts'
import type { Clock } from '#agent/platform.ts'

/** Workers look for a new control process again at least this often; see `ControlLink`. */
const comeBackMs = 3000

/** See the header. */
export class ComingBack {
  readonly #clock: Clock
  readonly #over = Promise.withResolvers<void>()
  #isOver = false
  #timer: Timer | null = null

  constructor(parts: { readonly clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Whether that time has passed. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** Resolves when that time has passed, or nobody waits any more. */
  get over(): Promise<void> {
    return this.#over.promise
  }

  /** Begins; calls back once the time has passed. */
  start(onOver: () => void): void {
    this.#timer = this.#clock.after(comeBackMs, () => {
      this.#isOver = true
      this.#over.resolve()
      onOver()
    })
  }

  stop(): void {
    this.#timer?.stop()
    this.#over.resolve()
  }
}
