/**
 * Owns the callee side's steps of one tunnel stream: every request on it goes to the one instance
 * the stream was opened for, where that is now, and is authorised as the service will see it. What
 * policy says is remembered until the policy is another one.
 */

import type { RequestHead } from '#agent/http1/head.ts'
import { RequestView } from '#agent/http1/request-view.ts'
import type { HttpSteps } from '#agent/relay/steps.ts'
import type { Decision, Upstream } from '#agent/relay/upstream.ts'
import type { Port } from '#shared/model/names.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { CallerPolicy, Verdict } from '#shared/policy/caller-policy.ts'
import type { CompiledPolicy } from '#shared/policy/compiled-policy.ts'
import type { Permit } from '#shared/policy/permit.ts'
import type { Refusal } from '#shared/policy/refusal.ts'
import type { LocalUpstream, ReachableInstance } from './local-instances.ts'

/** Settings of one stream's steps. */
export interface AnswerStepsSettings {
  readonly instance: ReachableInstance
  /** The peer, proven by mTLS. */
  readonly source: SpiffeId
  /** Told of each request that was one too many. */
  readonly onFull: () => void
}

/** Why an instance that is full takes no more. */
export function fullness({ view, load }: ReachableInstance): string {
  const part = load.limit === view.maxConcurrent ? '' : ` (${load.limit} of them by this worker)`
  return `${view.service} is given ${view.maxConcurrent} calls at once on this host${part}, and no more (maxConcurrent)`
}

/** See the header. */
export class AnswerSteps implements HttpSteps {
  readonly direction = 'inbound'
  readonly mtls = true
  readonly callerAddress = ''
  readonly source: SpiffeId
  readonly #instance: ReachableInstance
  readonly #onFull: () => void
  /** What `#caller` was made from. */
  #policy: CompiledPolicy
  #port: Port
  #caller: CallerPolicy
  /** The request that was last decided; null before the first, and on raw connections. */
  #request: RequestHead | null = null
  #decision: Extract<Decision, { kind: 'forward' }> | null = null
  #upstream: LocalUpstream | null = null

  constructor({ instance, source, onFull }: AnswerStepsSettings) {
    this.source = source
    this.#onFull = onFull
    this.#instance = instance
    this.#policy = instance.policy
    this.#port = instance.view.port
    this.#caller = this.#callerPolicy()
  }

  /** The verdict on the connection as such. */
  get connection(): Verdict {
    return this.#current().connection
  }

  decide(head: RequestHead): Decision {
    const { view, id, gone, load } = this.#instance
    if (gone) {
      const detail = `this host has no instance ${view.id} of ${view.service} any more`
      return this.#refuse({ reason: 'draining', detail, rule: null })
    }
    this.#request = head
    const caller = this.#current()
    const verdict = caller.isOpen ? caller.judge(new RequestView(head)) : caller.connection
    if (verdict.kind === 'denied') {
      const { reason, detail, ref } = verdict.refusal
      return this.#refuse({ reason, detail, rule: ref })
    }
    if (!load.isFull) return this.#forward(verdict.permit, id)
    this.#onFull()
    return this.#refuse({ reason: 'overloaded', detail: fullness(this.#instance), rule: null })
  }

  /**
   * A kept-alive connection that the service had closed is replaced, once; nothing else is repeated.
   * A service that closes a fresh one has got the request, and may have done what it asks.
   */
  again(failed: Upstream, reason: Reason): Upstream | null {
    const upstream = this.#upstream
    return reason === 'instance-aborted' && failed === upstream && upstream.wasKept ? failed : null
  }

  reconsider(isUnderWay: boolean): Refusal | null {
    if (this.#instance.policy === this.#policy) return null
    const caller = this.#current()
    const verdict =
      isUnderWay && this.#request !== null
        ? caller.judge(new RequestView(this.#request))
        : caller.connection
    return verdict.kind === 'denied' ? verdict.refusal : null
  }

  rest(): void {
    this.#request = null
    this.#decision = null
    this.#upstream = null
  }

  /** What the policy in force means for this caller. */
  #current(): CallerPolicy {
    const { policy, view } = this.#instance
    if (policy !== this.#policy || view.port !== this.#port) {
      this.#policy = policy
      this.#port = view.port
      this.#caller = this.#callerPolicy()
    }
    return this.#caller
  }

  #callerPolicy(): CallerPolicy {
    const isHttp = this.#instance.view.protocol === 'http'
    return this.#policy.forCaller(this.source, this.#port, isHttp)
  }

  /** The instance may have moved since the last request, to another port for one. */
  #forward(permit: Permit, destination: SpiffeId): Decision {
    const upstream = this.#instance.upstreamFor(this.source, this.#upstream)
    this.#upstream = upstream
    if (this.#decision?.upstream !== upstream || this.#decision.permit !== permit) {
      const { service } = this.#instance.view
      this.#decision = { kind: 'forward', upstream, permit, service, destination }
    }
    return this.#decision
  }

  #refuse(
    why: Pick<Extract<Decision, { kind: 'refuse' }>, 'reason' | 'detail' | 'rule'>,
  ): Decision {
    const { view, id } = this.#instance
    return { kind: 'refuse', ...why, service: view.service, destination: id }
  }
}
