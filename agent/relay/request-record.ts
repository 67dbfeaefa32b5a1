/**
 * Owns what is remembered of a request for its one outcome, and sees to it that there is only one.
 */

import type { HostName, InstanceId } from '#shared/model/names.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { Clock } from '#agent/platform.ts'
import type { RequestHead } from '#agent/http1/head.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { HttpSteps } from './steps.ts'
import type { Decision, Upstream } from './upstream.ts'

/** One record after the other; `begin` starts each. */
export class RequestRecord {
  readonly #parts: {
    readonly outcomes: OutcomeSink
    readonly clock: Clock
    readonly steps: HttpSteps
  }
  decision: Decision | null = null
  requestId = ''
  attempts = 0
  bytesFromCaller = 0
  bytesToCaller = 0
  /** Told to the caller; 0 before that. */
  status = 0
  #host: HostName | null = null
  #instance: InstanceId | null = null
  #mtls = false
  #startedAt = 0
  #startedElapsed = 0
  #isOpen = false

  constructor(parts: {
    readonly outcomes: OutcomeSink
    readonly clock: Clock
    readonly steps: HttpSteps
  }) {
    this.#parts = parts
  }

  /** Whether a request is under way. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  begin(headBytes: number): void {
    const { clock, steps } = this.#parts
    this.#isOpen = true
    this.decision = null
    this.requestId = ''
    this.attempts = 0
    this.bytesFromCaller = headBytes
    this.bytesToCaller = 0
    this.status = 0
    this.#host = null
    this.#instance = null
    this.#mtls = steps.direction === 'inbound' && steps.mtls
    this.#startedAt = clock.now()
    this.#startedElapsed = clock.elapsed()
  }

  /** An attempt goes to this upstream. */
  attempted(upstream: Upstream): void {
    this.attempts++
    this.#host = upstream.host
    this.#instance = upstream.instance
    if (this.#parts.steps.direction === 'outbound') this.#mtls = upstream.mtls
  }

  /** Writes the record; only the first call does. */
  end(head: RequestHead | null, reason: Reason): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    const { steps, outcomes, clock } = this.#parts
    const { decision } = this
    outcomes.record({
      direction: steps.direction,
      protocol: 'http',
      source: steps.source,
      destination: decision?.destination ?? null,
      service: decision?.service ?? null,
      host: this.#host,
      instance: this.#instance,
      method: head?.method ?? '',
      path: head === null ? '' : pathOf(head.target),
      status: this.status,
      reason,
      bytesFromCaller: this.bytesFromCaller,
      bytesToCaller: this.bytesToCaller,
      startedAt: this.#startedAt,
      durationMs: clock.elapsed() - this.#startedElapsed,
      attempts: this.attempts,
      mtls: this.#mtls,
      requestId: this.requestId,
    })
  }
}

/** A target without its query, which may hold secrets. */
function pathOf(target: string): string {
  const query = target.indexOf('?')
  return query < 0 ? target : target.slice(0, query)
}
