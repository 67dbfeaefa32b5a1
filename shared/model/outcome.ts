/** Owns the outcome: the one record written for every request and every connection, exactly once. */

import type { HostName, InstanceId, ServiceName } from './names.ts'
import type { RuleRef } from './policy.ts'
import type { Protocol } from './records.ts'
import type { Reason } from './reason.ts'
import type { SpiffeId } from './spiffe-id.ts'

/** Which side of the journey wrote the record. */
export type Direction = 'outbound' | 'inbound'

/** One finished request (`http`) or connection (`tcp`). */
export interface Outcome {
  readonly direction: Direction
  readonly protocol: Protocol
  /** Identity of the caller; null only where it could not be known. */
  readonly source: SpiffeId | null
  /** Identity of the service asked for; null where the request named none. */
  readonly destination: SpiffeId | null
  readonly service: ServiceName | null
  readonly host: HostName | null
  readonly instance: InstanceId | null
  readonly method: string
  readonly path: string
  /** HTTP status given to the caller; 0 for TCP and for requests nobody could answer. */
  readonly status: number
  readonly reason: Reason
  /**
   * The policy rule that refused; with a reason that is no refusal, one in audit mode that would have.
   */
  readonly rule: RuleRef | null
  readonly bytesFromCaller: number
  readonly bytesToCaller: number
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  readonly durationMs: number
  readonly attempts: number
  readonly mtls: boolean
  readonly requestId: string
}
