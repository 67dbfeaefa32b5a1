/**
 * Owns the callee side's steps of one tunnel stream: every request on it goes to the one instance
 * the stream was opened for, where that is now, and is authorised as the service will see it.
 */

import type { HttpSteps } from '#agent/relay/steps.ts'
import type { Decision, Upstream } from '#agent/relay/upstream.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Permit } from '#shared/policy/permit.ts'
import type { ReachableInstance } from './local-instances.ts'

/** Settings of one stream's steps. */
export interface AnswerStepsSettings {
  readonly instance: ReachableInstance
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
  readonly #instance: ReachableInstance
  readonly #permit: Permit
  #decision: Extract<Decision, { kind: 'forward' }> | null = null

  constructor(settings: AnswerStepsSettings) {
    this.source = settings.source
    this.#instance = settings.instance
    this.#permit = settings.permit
  }

  decide(): Decision {
    const { view, id, gone } = this.#instance
    if (gone) {
      const detail = `this host has no instance ${view.id} of ${view.service} any more`
      return { kind: 'refuse', reason: 'draining', detail, service: view.service, destination: id }
    }
    // The instance may have moved since the last request, to another port for one.
    const upstream = this.#instance.upstreamFor(this.source)
    if (this.#decision?.upstream !== upstream) {
      this.#decision = {
        kind: 'forward',
        upstream,
        permit: this.#permit,
        service: view.service,
        destination: id,
      }
    }
    return this.#decision
  }

  /** A kept-alive connection that the service had closed is replaced; nothing else is repeated. */
  again(failed: Upstream, reason: Reason): Upstream | null {
    return reason === 'instance-aborted' ? failed : null
  }
}
