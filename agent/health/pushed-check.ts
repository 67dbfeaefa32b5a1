/**
 * Owns a check whose results are brought to the agent, by `meshctl health` for one. A result counts
 * at once and for its time only: who stops bringing any is failing.
 */

import type { Timer } from '#shared/lifecycle/clock.ts'
import { unchecked, type CheckResult, type HealthStatus } from './check-rules.ts'
import type { StandingResult } from './kept-results.ts'
import type { RunningCheck, RunningCheckParts, RunningCheckSettings } from './running-check.ts'
import { logTransition } from './transition.ts'

/** Brought results need no patience: whoever brings them has had it. */
const atOnce = { pass: 'passing', warn: 'warning', fail: 'failing' } as const

/** See the header. */
export class PushedCheck implements RunningCheck {
  readonly settings: RunningCheckSettings
  readonly #parts: Pick<RunningCheckParts, 'clock' | 'logger' | 'onTransition'>
  readonly #ttlMs: number
  /** How long it waits for the first result. */
  readonly #firstMs: number
  #status: HealthStatus
  #timer: Timer | null = null

  /**
   * `status` is what is known already, of an instance whose check alone has changed; `standing`, what was
   * brought before this process began.
   */
  constructor(
    parts: Pick<RunningCheckParts, 'clock' | 'logger' | 'onTransition'>,
    settings: RunningCheckSettings,
    status: HealthStatus = unchecked(settings.check),
    standing: StandingResult | null = null,
  ) {
    this.#parts = parts
    this.settings = settings
    this.#status = standing === null ? status : statusBy(standing)
    this.#ttlMs = settings.check.kind === 'push' ? settings.check.ttlMs : 0
    this.#firstMs = standing?.leftMs ?? this.#ttlMs
  }

  get status(): HealthStatus {
    return this.#status
  }

  /** Begins to wait for results. */
  start(): void {
    this.#await(this.#firstMs)
  }

  /** Takes a result. */
  take(result: CheckResult): void {
    this.#become(statusBy(result))
    this.#await(this.#ttlMs)
  }

  async stop(): Promise<void> {
    this.#timer?.stop()
  }

  #await(ms: number): void {
    this.#timer?.stop()
    this.#timer = this.#parts.clock.after(ms, () => {
      const detail = `no result was brought for ${this.#ttlMs / 1000} s`
      this.#become({ state: 'failing', detail, streak: 0, last: this.#status.last })
    })
  }

  #become(status: HealthStatus): void {
    const before = this.#status
    this.#status = status
    if (before.state === status.state) return
    logTransition(this.#parts.logger, this.settings, before.state, status)
    this.#parts.onTransition()
  }
}

function statusBy({ outcome, detail }: CheckResult): HealthStatus {
  return { state: atOnce[outcome], detail, streak: 0, last: outcome }
}
