/**
 * Owns an HTTP relay between memory channels: a caller, one upstream, and every outcome recorded.
 * Time stands still unless the test turns it.
 */

import { systemRandom } from '#shared/lifecycle/clock.ts'
import { must, parseHostName, parseInstanceId, parseServiceName } from '#shared/model/names.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import type { Reason } from '#shared/model/reason.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import { permitToCarry } from '#shared/policy/authorise.ts'
import type { RequestHead } from '#agent/http1/head.ts'
import type { Channel, Opener } from '#agent/platform.ts'
import { HttpRelay, httpRelayDefaults, type HttpRelaySettings } from '#agent/relay/http-relay.ts'
import { RelayWatch } from '#agent/relay/relay-watch.ts'
import type { HttpSteps } from '#agent/relay/steps.ts'
import type { AttemptResult, Decision, Upstream } from '#agent/relay/upstream.ts'
import { FakeClock } from './fake-clock.ts'
import { MemoryChannel } from './memory-channel.ts'

export const orders = must(parseServiceName('orders'))
export const ordersId = must(parseSpiffeId('spiffe://mesh.internal/service/orders'))
export const webId = must(parseSpiffeId('spiffe://mesh.internal/service/web'))

/** An upstream whose channels a test holds in its hands. */
export class MemoryUpstream implements Upstream {
  readonly host = must(parseHostName('alpha'))
  readonly instance = must(parseInstanceId('o1'))
  readonly mtls: boolean
  readonly idle: Channel[] = []
  /** Channels opened so far. */
  readonly opened: MemoryChannel[] = []
  readonly results: AttemptResult[] = []
  begun = 0
  /** Set to make opening fail. */
  failure: Reason | null = null
  /** Set to answer openers later, by hand. */
  isSlow = false
  readonly waiting: Opener[] = []

  constructor(settings: { readonly mtls?: boolean } = {}) {
    this.mtls = settings.mtls ?? false
  }

  /** The channel opened last. */
  get last(): MemoryChannel {
    const channel = this.opened.at(-1)
    if (channel === undefined) throw new Error('no channel was opened')
    return channel
  }

  takeIdle(): Channel | null {
    return this.idle.pop() ?? null
  }

  open(opener: Opener): void {
    if (this.isSlow) this.waiting.push(opener)
    else if (this.failure !== null) opener.onOpenFailed(this.failure, 'as the test says')
    else opener.onOpen(this.add())
  }

  /** A new channel, as if opened. */
  add(): MemoryChannel {
    const channel = new MemoryChannel()
    this.opened.push(channel)
    return channel
  }

  release(channel: Channel): void {
    this.idle.push(channel)
  }

  started(): void {
    this.begun++
  }

  finished(result: AttemptResult): void {
    this.results.push(result)
  }
}

/** The steps of a journey to one service; `upstreams` are taken in turn. */
export class MemorySteps implements HttpSteps {
  readonly direction: 'outbound' | 'inbound'
  readonly mtls: boolean
  readonly source = webId
  readonly callerAddress = '10.0.0.7'
  readonly heads: string[] = []
  readonly repeats: Reason[] = []
  readonly upstreams: readonly Upstream[]
  refusal: { readonly reason: Reason; readonly detail: string } | null = null
  #next = 0

  constructor(settings: {
    readonly direction?: 'outbound' | 'inbound'
    readonly upstreams: readonly Upstream[]
  }) {
    this.direction = settings.direction ?? 'outbound'
    this.mtls = this.direction === 'inbound'
    this.upstreams = settings.upstreams
  }

  decide(head: RequestHead): Decision {
    this.heads.push(`${head.method} ${head.authority} ${head.target}`)
    if (this.refusal !== null) {
      return { kind: 'refuse', ...this.refusal, service: orders, destination: ordersId }
    }
    return {
      kind: 'forward',
      upstream: this.#take() as Upstream,
      permit: permitToCarry(),
      service: orders,
      destination: ordersId,
    }
  }

  again(_failed: Upstream, reason: Reason): Upstream | null {
    this.repeats.push(reason)
    return this.#take()
  }

  #take(): Upstream | null {
    return this.upstreams[this.#next++ % this.upstreams.length] ?? null
  }
}

/** A relay with everything around it. */
export class RelayBench {
  readonly caller = new MemoryChannel()
  readonly clock = new FakeClock()
  readonly watch: RelayWatch
  readonly outcomes: Outcome[] = []
  readonly steps: MemorySteps
  readonly relay: HttpRelay

  constructor(
    settings: {
      readonly direction?: 'outbound' | 'inbound'
      readonly upstreams?: readonly Upstream[]
      readonly relay?: Partial<HttpRelaySettings>
    } = {},
  ) {
    const upstreams = settings.upstreams ?? [new MemoryUpstream()]
    this.steps = new MemorySteps({ direction: settings.direction ?? 'outbound', upstreams })
    this.watch = new RelayWatch({ clock: this.clock })
    this.relay = new HttpRelay(
      {
        caller: this.caller,
        steps: this.steps,
        outcomes: { record: (outcome) => this.outcomes.push(outcome) },
        watch: this.watch,
        clock: this.clock,
        random: systemRandom,
      },
      { ...httpRelayDefaults, ...settings.relay },
    )
    this.relay.start()
  }

  /** The first upstream. */
  get upstream(): MemoryUpstream {
    return this.steps.upstreams[0] as MemoryUpstream
  }

  /** Reasons recorded so far, with statuses. */
  get endings(): readonly string[] {
    return this.outcomes.map(({ reason, status }) => `${status} ${reason}`)
  }
}
