/**
 * Owns a raw connection between a caller and an instance: spliced as it is, with one record at the
 * end. It demands a permit.
 */

import type { Channel, Clock } from '#agent/platform.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { HostName, InstanceId, ServiceName } from '#shared/model/names.ts'
import type { Direction } from '#shared/model/outcome.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { RuleRef } from '#shared/model/policy.ts'
import type { Permit } from '#shared/policy/permit.ts'
import type { HttpSteps } from './steps.ts'
import type { RelayWatch } from './relay-watch.ts'
import { Splice, type SpliceEnd, type SpliceOwner } from './splice.ts'

/** What is known of the connection, for its record. */
export interface TcpRelayFacts {
  readonly direction: Direction
  readonly source: SpiffeId | null
  readonly destination: SpiffeId | null
  readonly service: ServiceName | null
  readonly host: HostName | null
  readonly instance: InstanceId | null
  readonly mtls: boolean
  readonly attempts: number
}

/** The reason of a connection that ended so. */
export function reasonOf(end: SpliceEnd, mtls: boolean): Reason {
  switch (end) {
    case 'clean':
      return 'ok'
    case 'caller-lost':
      return 'caller-aborted'
    case 'denied':
      return 'policy-denied'
    case 'service-lost':
      return mtls ? 'tunnel-lost' : 'instance-aborted'
  }
}

/** See the header. */
export class TcpRelay implements SpliceOwner {
  readonly #splice: Splice
  readonly #parts: {
    readonly outcomes: OutcomeSink
    readonly clock: Clock
    readonly steps: Pick<HttpSteps, 'reconsider'>
  }
  readonly #facts: TcpRelayFacts
  #rule: RuleRef | null
  readonly #startedAt: number
  readonly #startedElapsed: number

  constructor(
    parts: {
      readonly caller: Channel
      readonly service: Channel
      readonly outcomes: OutcomeSink
      readonly watch: RelayWatch
      readonly clock: Clock
      /** Who is asked whether policy still allows it. */
      readonly steps: Pick<HttpSteps, 'reconsider'>
    },
    facts: TcpRelayFacts,
    permit: Permit,
  ) {
    this.#parts = parts
    this.#facts = facts
    this.#rule = permit.audit?.ref ?? null
    this.#startedAt = parts.clock.now()
    this.#startedElapsed = parts.clock.elapsed()
    this.#splice = new Splice({ ...parts, owner: this })
  }

  /** Begins to copy; both channels are its own from here on. */
  start(): void {
    this.#splice.start(null)
  }

  /** For the splice. */
  stillAllowed(): boolean {
    const refusal = this.#parts.steps.reconsider(true)
    if (refusal !== null) this.#rule = refusal.ref
    return refusal === null
  }

  /** For the splice. */
  spliceOver(end: SpliceEnd, bytesFromCaller: number, bytesToCaller: number): void {
    const { outcomes, clock } = this.#parts
    const { direction, mtls } = this.#facts
    outcomes.record({
      ...this.#facts,
      protocol: 'tcp',
      method: '',
      path: '',
      status: 0,
      reason: reasonOf(end, direction === 'outbound' && mtls),
      rule: this.#rule,
      bytesFromCaller,
      bytesToCaller,
      startedAt: this.#startedAt,
      durationMs: clock.elapsed() - this.#startedElapsed,
      requestId: '',
    })
  }
}
