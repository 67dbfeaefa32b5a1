/**
 * Owns the seam between the relay, which moves bytes, and the journeys (outbound, inbound), which
 * decide where they go. Types only.
 */

import type { HostName, InstanceId, ServiceName } from '#shared/model/names.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { RuleRef } from '#shared/model/policy.ts'
import type { Permit } from '#shared/policy/permit.ts'
import type { Channel, Opener } from '#agent/platform.ts'
import type { OutsideName } from './outside-name.ts'

export type { Opener } from '#agent/platform.ts'

/** How one attempt on an upstream ended, for balancing and ejection. */
export type AttemptResult = 'ok' | 'connect-failed' | 'reset' | 'server-error' | 'abandoned'

/**
 * One instance as this side reaches it: by tunnel or by a local socket. Long-lived, shared by many
 * requests, so the hot path allocates none.
 */
export interface Upstream {
  /** Null for a service outside the mesh. */
  readonly host: HostName | null
  readonly instance: InstanceId
  /** Whether bytes to it are under mTLS. */
  readonly mtls: boolean
  /** For a service outside the mesh: it knows nothing of the mesh, and is told nothing of who calls. */
  readonly outside?: OutsideName
  /** A kept-alive channel, or null. */
  takeIdle(): Channel | null
  /** Opens a new channel. */
  open(opener: Opener): void
  /** Takes back a channel after a complete request and a complete response, and not a byte more. */
  release(channel: Channel): void
  /** An attempt begins; exactly one `finished` follows. */
  started(): void
  finished(result: AttemptResult): void
}

/** What a journey decided for a request or connection. */
export type Decision =
  | {
      readonly kind: 'forward'
      readonly upstream: Upstream
      readonly permit: Permit
      readonly service: ServiceName
      readonly destination: SpiffeId
    }
  | {
      readonly kind: 'refuse'
      readonly reason: Reason
      /** One sentence for the caller: what, which rule, what to do. */
      readonly detail: string
      readonly service: ServiceName | null
      readonly destination: SpiffeId | null
      /** The policy rule that refuses; null where it is no matter of policy. */
      readonly rule: RuleRef | null
    }
