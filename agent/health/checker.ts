/**
 * Owns the loop that checks one local instance and tells when its state changes. It never runs two
 * checks at once, and an interval runs from the end of one to the start of the next.
 */

import { sleep } from '#shared/lifecycle/clock.ts'
import { afterCheck, unchecked, type HealthStatus } from './check-rules.ts'
import type { RunningCheck, RunningCheckParts, RunningCheckSettings } from './running-check.ts'
import { logTransition } from './transition.ts'

/** While the first verdict is out, checks follow each other this fast, milliseconds. */
const startingMs = 200

/** See the header. */
export class Checker implements RunningCheck {
  readonly settings: RunningCheckSettings
  readonly #parts: RunningCheckParts
  readonly #stopping = new AbortController()
  #status: HealthStatus
  #limit = new AbortController()
  #running: Promise<void> | null = null

  /** `status` is what is known already, of an instance whose check alone has changed. */
  constructor(
    parts: RunningCheckParts,
    settings: RunningCheckSettings,
    status: HealthStatus = unchecked(settings.check),
  ) {
    this.#parts = parts
    this.settings = settings
    this.#status = status
  }

  get status(): HealthStatus {
    return this.#status
  }

  /** Begins with a check at once. */
  start(): void {
    this.#running ??= this.#run()
  }

  /** Ends the loop and the check under way. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#limit.abort(new Error('stopped'))
    await this.#running
  }

  async #run(): Promise<void> {
    const { clock, random } = this.#parts
    const { signal } = this.#stopping
    const { intervalMs } = this.settings.check
    while (!signal.aborted) {
      await this.#check()
      const pace = this.#status.state === 'starting' ? Math.min(intervalMs, startingMs) : intervalMs
      await sleep(clock, pace * (0.9 + random.fraction() / 5), signal)
    }
  }

  async #check(): Promise<void> {
    const { clock, logger, probe, onTransition } = this.#parts
    const { check, address } = this.settings
    const limit = new AbortController()
    this.#limit = limit
    const timer = clock.after(check.timeoutMs, () =>
      limit.abort(new Error(`no answer within ${check.timeoutMs} ms`)),
    )
    const port = 'port' in check && check.port !== undefined ? check.port : this.settings.port
    const result = await probe({ address, port, check }, limit.signal)
    timer.stop()
    if (this.#stopping.signal.aborted) return
    const before = this.#status
    this.#status = afterCheck(before, result, check)
    if (this.#status.state === before.state) return
    logTransition(logger, this.settings, before.state, this.#status)
    onTransition()
  }
}
