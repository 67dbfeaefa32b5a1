/**
 * Owns what becomes of an outcome: it is counted, and written as one JSON access line where the
 * settings ask for it. The relay calls it exactly once per request or connection.
 */

import type { Outcome } from '#shared/model/outcome.ts'
import type { TrafficCounters } from './traffic-counters.ts'

/** Writes one access line; pino's `info` bound to the access logger fits. */
export interface AccessLog {
  write(outcome: Outcome): void
}

/** Settings of a recorder. */
export interface RecorderSettings {
  readonly accessLog: 'on' | 'errors' | 'off'
}

/** The outcome sink of a worker. */
export class Recorder {
  readonly #counters: TrafficCounters
  readonly #log: AccessLog
  readonly #mode: RecorderSettings['accessLog']

  constructor(
    parts: { readonly counters: TrafficCounters; readonly log: AccessLog },
    settings: RecorderSettings,
  ) {
    this.#counters = parts.counters
    this.#log = parts.log
    this.#mode = settings.accessLog
  }

  /** Counts and logs one outcome. */
  record(outcome: Outcome): void {
    this.#counters.count(outcome)
    if (this.#mode === 'off') return
    if (this.#mode === 'errors' && outcome.reason === 'ok' && outcome.status < 500) return
    this.#log.write(outcome)
  }
}
