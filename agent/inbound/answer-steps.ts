/**
 * Owns the callee side's steps of one tunnel stream: every request on it goes to the one instance
 * the stream was opened for, and is authorised as the service will see it.
 */

import type { HttpSteps } from '#agent/relay/steps.ts'
import type { Decision, Upstream } from '#agent/relay/upstream.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Permit } from '#shared/policy/permit.ts'
import type { LocalUpstream, ReachableInstance } from './local-instances.ts'

/** Settings of one stream's steps. */
export interface AnswerStepsSettings {
  readonly instance: ReachableInstance
  readonly upstream: LocalUpstream
  /** The peer, proven by mTLS. */
  readonly source: SpiffeId
  readonly permit: Permit
}

/** See the header. */
export class AnswerSteps implements HttpSteps {
  readonly direction = 'inbound'
  readonly mtls = true
  readonly callerAddress = ''
  readonly source: SpiffeId
  readonly #decision: Decision

  constructor(settings: AnswerStepsSettings) {
    const { instance, upstream, source, permit } = settings
    this.source = source
    this.#decision = {
      kind: 'forward',
      upstream,
      permit,
      service: instance.view.service,
      destination: instance.id,
    }
  }

  decide(): Decision {
    return this.#decision
  }

  /** A kept-alive connection that the service had closed is replaced; nothing else is repeated. */
  again(failed: Upstream, reason: Reason): Upstream | null {
    return reason === 'instance-aborted' ? failed : null
  }
}
