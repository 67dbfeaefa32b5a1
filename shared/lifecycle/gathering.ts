/**
 * Owns work that is the same however often it is asked for: what is asked for within a moment is done
 * once, at its end. Work that can wait rests after each run, so that it leaves most of the time to others.
 */

import type { Clock, Timer } from './clock.ts'

/** See the header. */
export class Gathering {
  readonly #clock: Clock
  readonly #run: () => void
  readonly #gatherMs: number
  readonly #restShare: number
  #restsUntil = 0
  #timer: Timer | null = null
  #stopped = false

  /** `restShare`: how many times as long as a run took it rests afterwards. @default 0 */
  constructor(
    parts: { readonly clock: Clock; readonly run: () => void },
    settings: { readonly gatherMs: number; readonly restShare?: number },
  ) {
    this.#clock = parts.clock
    this.#run = parts.run
    this.#gatherMs = settings.gatherMs
    this.#restShare = settings.restShare ?? 0
  }

  /** Asks for the work; it is done within the moment, or after the rest. */
  ask(): void {
    if (this.#stopped || this.#timer !== null) return
    const restMs = this.#restsUntil - this.#clock.elapsed()
    this.#timer = this.#clock.after(Math.max(this.#gatherMs, restMs), () => this.#work())
  }

  #work(): void {
    this.#timer = null
    const startedAt = this.#clock.elapsed()
    this.#run()
    const endedAt = this.#clock.elapsed()
    this.#restsUntil = endedAt + this.#restShare * (endedAt - startedAt)
  }

  /** What was asked for and is not done yet never will be. */
  stop(): void {
    this.#stopped = true
    this.#timer?.stop()
  }
}
