/**
 * Owns a raw connection of a caller until its upstream is open: who it goes to, again where that failed, and
 * the one record of one that goes nowhere. What the caller says meanwhile waits.
 */

import type { Channel, ChannelSink, Clock, Opener } from '#agent/platform.ts'
import { resultOfUnsent } from '#agent/relay/attempt-results.ts'
import { httpRelayDefaults } from '#agent/relay/http-relay.ts'
import type { RelayWatch } from '#agent/relay/relay-watch.ts'
import { nobody } from '#agent/relay/silence.ts'
import { TcpRelay } from '#agent/relay/tcp-relay.ts'
import type { AttemptResult, Decision, Upstream } from '#agent/relay/upstream.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import type { RuleRef } from '#shared/model/policy.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { TargetName } from '#shared/model/target.ts'
import type { CallSteps } from './call-steps.ts'

/** What it leans on. */
export interface TcpCallParts {
  readonly caller: Channel
  readonly steps: CallSteps
  readonly outcomes: OutcomeSink
  readonly watch: RelayWatch
  readonly clock: Clock
}

/** See the header. */
export class TcpCall implements Opener, ChannelSink {
  readonly #parts: TcpCallParts
  readonly #startedAt: number
  #decision: Decision | null = null
  #upstream: Upstream | null = null
  #attempts = 0
  #over = false
  /** What was read off the caller before it could go on. */
  #early: Buffer | null = null

  constructor(
    parts: TcpCallParts,
    /** Monotonic milliseconds. @default now */
    settings: { readonly startedAt: number | undefined },
  ) {
    this.#parts = parts
    this.#startedAt = settings.startedAt ?? parts.clock.elapsed()
  }

  /** Begins; the caller's channel is its own from here on. */
  start(target: TargetName): void {
    const { caller, steps } = this.#parts
    caller.sink = this
    caller.pause()
    const decision = steps.decideTarget(target)
    this.#decision = decision
    if (caller.closed) this.#refuse('caller-aborted')
    else if (decision.kind === 'refuse') this.#refuse(decision.reason, decision.rule)
    else this.#attempt(decision.upstream)
  }

  onOpen(channel: Channel): void {
    const decision = this.#decision
    const upstream = this.#upstream
    if (this.#over || decision?.kind !== 'forward' || upstream === null) {
      channel.sink = nobody
      channel.abort()
      return
    }
    this.#over = true
    const { caller, watch, clock, steps } = this.#parts
    new TcpRelay(
      {
        caller,
        service: channel,
        outcomes: {
          record: (outcome) => {
            upstream.finished(resultOf(outcome))
            this.#parts.outcomes.record(outcome)
          },
        },
        watch,
        clock,
        steps,
      },
      {
        direction: 'outbound',
        source: steps.source,
        destination: decision.destination,
        service: decision.service,
        host: upstream.host,
        instance: upstream.instance,
        mtls: upstream.mtls,
        attempts: this.#attempts,
      },
      decision.permit,
    ).start()
    if (this.#early !== null) caller.sink.onData(this.#early)
  }

  onOpenFailed(reason: Reason): void {
    if (this.#over) return
    const failed = this.#upstream as Upstream
    failed.finished(resultOfUnsent(reason))
    const next =
      this.#attempts < httpRelayDefaults.maxAttempts
        ? this.#parts.steps.again(failed, reason)
        : null
    if (next === null) this.#refuse(reason)
    else this.#attempt(next)
  }

  onData(chunk: Buffer): void {
    this.#early = this.#early === null ? chunk : Buffer.concat([this.#early, chunk])
  }

  onEnd(): void {}
  onDrain(): void {}

  onClose(): void {
    if (this.#over) return
    this.#upstream?.finished('abandoned')
    this.#refuse('caller-aborted')
  }

  #attempt(upstream: Upstream): void {
    this.#attempts++
    this.#upstream = upstream
    upstream.started()
    upstream.open(this)
  }

  #refuse(reason: Reason, rule: RuleRef | null = null): void {
    this.#over = true
    const { caller, steps, clock, outcomes } = this.#parts
    caller.abort()
    const durationMs = clock.elapsed() - this.#startedAt
    outcomes.record({
      direction: 'outbound',
      protocol: 'tcp',
      source: steps.source,
      destination: this.#decision?.destination ?? null,
      service: this.#decision?.service ?? null,
      host: this.#upstream?.host ?? null,
      instance: this.#upstream?.instance ?? null,
      method: '',
      path: '',
      status: 0,
      reason,
      rule,
      bytesFromCaller: 0,
      bytesToCaller: 0,
      startedAt: clock.now() - durationMs,
      durationMs,
      attempts: this.#attempts,
      mtls: this.#upstream?.mtls ?? false,
      requestId: '',
    })
  }
}

/** A raw connection that is lost later than this has served. */
const youngMs = 5000

/**
 * What the end of a raw connection says of its instance. One that has spoken, or has listened for long, and
 * is cut may have done all it had to, or policy, or an agent that is replaced, has cut it.
 */
function resultOf({ reason, bytesToCaller, durationMs }: Outcome): AttemptResult {
  if (reason === 'ok') return 'ok'
  const isLost = reason === 'instance-aborted' || reason === 'tunnel-lost'
  return isLost && bytesToCaller === 0 && durationMs < youngMs ? 'reset' : 'abandoned'
}
