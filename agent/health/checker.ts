/**
 * Owns the loop that checks one local instance and tells when its state changes. It never runs two
 * checks at once, and an interval runs from the end of one to the start of the next.
 */

import { sleep, type Clock, type Random } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HealthCheck } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import { afterCheck, type HealthStatus } from './check-rules.ts'
import type { Probe } from './probe.ts'

/** Collaborators of a checker. */
export interface CheckerParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly probe: Probe
  /** Told of every change of state, after the fact. */
  readonly onTransition: () => void
}

/** Settings of a checker. */
export interface CheckerSettings {
  readonly service: ServiceName
  readonly address: string
  readonly port: number
  readonly health: HealthCheck
}

/** While the first verdict is out, checks follow each other this fast, milliseconds. */
const startingMs = 200

/** See the header. */
export class Checker {
  readonly settings: CheckerSettings
  readonly #parts: CheckerParts
  readonly #stopping = new AbortController()
  #status: HealthStatus
  #limit = new AbortController()
  #running: Promise<void> | null = null

  /** `status` is what is known already, of an instance whose check alone has changed. */
  constructor(parts: CheckerParts, settings: CheckerSettings, status: HealthStatus) {
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
    const { intervalMs } = this.settings.health
    while (!signal.aborted) {
      await this.#check()
      const pace = this.#status.state === 'starting' ? Math.min(intervalMs, startingMs) : intervalMs
      await sleep(clock, pace * (0.9 + random.fraction() / 5), signal)
    }
  }

  async #check(): Promise<void> {
    const { clock, logger, probe, onTransition } = this.#parts
    const { service, health } = this.settings
    const limit = new AbortController()
    this.#limit = limit
    const timer = clock.after(health.timeoutMs, () =>
      limit.abort(new Error(`no answer within ${health.timeoutMs} ms`)),
    )
    const result = await probe(this.settings, limit.signal)
    timer.stop()
    if (this.#stopping.signal.aborted) return
    const before = this.#status
    this.#status = afterCheck(before, result, health)
    const { state, detail } = this.#status
    if (state === before.state) return
    const fields = { service, detail }
    if (state === 'failing') logger.warn(fields, `health: ${before.state} -> ${state}`)
    else logger.info(fields, `health: ${before.state} -> ${state}`)
    onTransition()
  }
}
