/**
 * Owns work that is the same however often it is asked for: what is asked for within a moment is done
 * once, at its end.
 */

import type { Clock, Timer } from './clock.ts'

/** See the header. */
export class Gathering {
  readonly #clock: Clock
  readonly #run: () => void
  readonly #gatherMs: number
  #timer: Timer | null = null
  #stopped = false

  constructor(
    parts: { readonly clock: Clock; readonly run: () => void },
    settings: { readonly gatherMs: number },
  ) {
    this.#clock = parts.clock
    this.#run = parts.run
    this.#gatherMs = settings.gatherMs
  }

  /** Asks for the work; it is done within the moment. */
  ask(): void {
    if (this.#stopped) return
    this.#timer ??= this.#clock.after(this.#gatherMs, () => {
      this.#timer = null
      this.#run()
    })
  }

  /** What was asked for and is not done yet never will be. */
  stop(): void {
    this.#stopped = true
    this.#timer?.stop()
  }
}
