/**
 * Owns the seam by which a journey tells the HTTP relay what to do with each request. Types only.
 */

import type { RequestHead } from '#agent/http1/head.ts'
import type { Direction } from '#shared/model/outcome.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Refusal } from '#shared/policy/refusal.ts'
import type { Decision, Upstream } from './upstream.ts'

/** The steps of one side of the journey, for one caller connection. */
export interface HttpSteps {
  readonly direction: Direction
  /** Identity of whoever opened the connection; null where it is not known. */
  readonly source: SpiffeId | null
  /** Whether bytes to the caller travel under mTLS (the inbound side's tunnel). */
  readonly mtls: boolean
  /** The caller's IP address, for `x-forwarded-for`; empty on the inbound side. */
  readonly callerAddress: string
  /** Route, policy and balance: where a request goes, or why nowhere. */
  decide(head: RequestHead): Decision
  /**
   * Where a request goes after `failed`, when it is safe to repeat: another upstream, the same one
   * for a fresh channel, or null when the budget is spent or there is none.
   */
  again(failed: Upstream, reason: Reason): Upstream | null
  /**
   * Asks policy again after it has changed: what it now says against the connection, or against the
   * request under way; null where nothing.
   */
  reconsider(isUnderWay: boolean): Refusal | null
  /** The connection has been idle for a while: what is kept of its last request may go. */
  rest(): void
}
