/**
 * Owns what becomes of an outcome: it is counted, and written as one JSON access line where the
 * settings ask for it. The relay calls it exactly once per request or connection.
 */

import { agentMetrics } from '#shared/metrics/names.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import type { RuleRef } from '#shared/model/policy.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { TrafficCounters } from './traffic-counters.ts'

/** Writes one access line; pino's `info` bound to the access logger fits. */
export interface AccessLog {
  write(outcome: Outcome): void
}

/** Settings of a recorder. */
export interface RecorderSettings {
  readonly accessLog: 'on' | 'errors' | 'off'
}

/** The reasons of calls that a rule refused in earnest. */
const refusals: ReadonlySet<Reason> = new Set(['policy-denied', 'ambiguous-request'])

/** The outcome sink of a worker. */
export class Recorder {
  readonly #counters: TrafficCounters
  readonly #log: AccessLog
  #mode: RecorderSettings['accessLog']

  constructor(
    parts: { readonly counters: TrafficCounters; readonly log: AccessLog },
    settings: RecorderSettings,
  ) {
    this.#counters = parts.counters
    this.#log = parts.log
    this.#mode = settings.accessLog
  }

  /** Which requests leave a line from now on. */
  setAccessLog(mode: RecorderSettings['accessLog']): void {
    this.#mode = mode
  }

  /** Counts and logs one outcome. */
  record(outcome: Outcome): void {
    this.#counters.count(outcome)
    if (outcome.rule !== null) this.#countDenial(outcome, outcome.rule)
    if (this.#mode === 'off') return
    const isQuiet = outcome.reason === 'ok' && outcome.status < 500 && outcome.rule === null
    if (this.#mode === 'errors' && isQuiet) return
    this.#log.write(outcome)
  }

  /** Rules are as many as are written; the counters' own limit stands behind that. */
  #countDenial({ destination, reason }: Outcome, { rule, file }: RuleRef): void {
    const mode = refusals.has(reason) ? 'enforce' : 'audit'
    const labels = { destination: destination ?? '', rule, file, mode }
    this.#counters.tally(agentMetrics.denials.name, labels)
  }
}
