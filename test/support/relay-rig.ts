/**
 * Owns an HTTP relay on a loopback port for tests, with upstreams that are ports of this machine:
 * what it recorded, how each attempt went, and the seams a test may bend.
 */

import { EventEmitter, once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Channel, Clock, Opener } from '#agent/platform.ts'
import { LocalDialler } from '#agent/relay/dial-local.ts'
import { HttpRelay, httpRelayDefaults, type HttpRelaySettings } from '#agent/relay/http-relay.ts'
import type { OutsideName } from '#agent/relay/outside-name.ts'
import { RelayWatch } from '#agent/relay/relay-watch.ts'
import { SocketChannel } from '#agent/relay/socket-channel.ts'
import type { HttpSteps } from '#agent/relay/steps.ts'
import type { AttemptResult, Decision, Upstream } from '#agent/relay/upstream.ts'
import { ChannelPool } from '#agent/tunnel/channel-pool.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import {
  must,
  parseHostName,
  parseInstanceId,
  parseServiceName,
  parseTrustDomain,
} from '#shared/model/names.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import { serviceId } from '#shared/model/spiffe-id.ts'
import type { Refusal } from '#shared/policy/refusal.ts'
import { mintPermit } from '#shared/policy/permit.ts'
import { RawPeer } from './raw-peer.ts'

const trustDomain = must(parseTrustDomain('mesh.internal'))
const service = must(parseServiceName('orders'))
const destination = serviceId(trustDomain, service)

/** Who calls in a rig. */
export const rigSource = serviceId(trustDomain, must(parseServiceName('web')))

const nobody = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }

/** An instance that is a port of this machine. */
export class RigUpstream implements Upstream {
  readonly host = must(parseHostName('beta'))
  readonly instance
  readonly mtls: boolean
  readonly outside?: OutsideName
  readonly pool: ChannelPool
  readonly results: AttemptResult[] = []
  attempts = 0
  /** Channels opened. */
  opens = 0
  readonly #dialler: LocalDialler
  readonly #port: number
  readonly #changes: EventEmitter

  constructor(clock: Clock, settings: RigUpstreamSettings & { readonly changes: EventEmitter }) {
    this.instance = must(parseInstanceId(settings.name ?? 'i1'))
    this.mtls = settings.mtls ?? false
    if (settings.outside !== undefined) this.outside = settings.outside
    this.#port = settings.port
    this.#changes = settings.changes
    this.pool = new ChannelPool({ clock })
    this.#dialler = new LocalDialler(
      { clock, random: systemRandom },
      { source: '127.0.0.1', timeoutMs: 30_000 },
    )
  }

  takeIdle(): Channel | null {
    return this.pool.take()
  }

  open(opener: Opener): void {
    this.opens++
    this.#dialler.dial('127.0.0.1', this.#port, opener)
  }

  release(channel: Channel): void {
    this.pool.release(channel)
    this.#changes.emit('change')
  }

  started(): void {
    this.attempts++
  }

  finished(result: AttemptResult): void {
    this.results.push(result)
  }
}

/** Settings of an upstream. */
export interface RigUpstreamSettings {
  readonly port: number
  /** @default i1 */
  readonly name?: string
  /** Whether it counts as a far agent. @default false */
  readonly mtls?: boolean
  /** How it is named where it counts as outside the mesh. @default it is in the mesh */
  readonly outside?: OutsideName
}

/** Settings of a rig. */
export interface RigSettings {
  /** Tried in this order: the first one decides, each further one is where to go after a failure. */
  readonly upstreams: readonly RigUpstreamSettings[]
  readonly relay?: Partial<HttpRelaySettings>
  readonly clock?: Clock
  /** Counts what waits. @default nobody does */
  readonly held?: HeldBytes
  /** @default outbound */
  readonly direction?: HttpSteps['direction']
  /** Decides instead of taking the first upstream. */
  readonly decide?: HttpSteps['decide']
}

/** See the header. */
export class RelayRig {
  readonly outcomes: Outcome[] = []
  readonly upstreams: readonly RigUpstream[]
  readonly watch: RelayWatch
  /** What policy says when it is asked again. */
  refusal: Refusal | null = null
  /** How often a connection has come to rest. */
  rests = 0
  readonly #settings: RigSettings
  readonly #changes = new EventEmitter()
  readonly #server
  readonly #peers: RawPeer[] = []

  private constructor(settings: RigSettings) {
    const clock = settings.clock ?? systemClock
    this.#settings = settings
    this.watch = new RelayWatch({ clock })
    this.upstreams = settings.upstreams.map(
      (one) => new RigUpstream(clock, { ...one, changes: this.#changes }),
    )
    this.#server = createServer(
      { allowHalfOpen: true, noDelay: true, highWaterMark: 262_144 },
      (socket) => this.relay(new SocketChannel(socket, nobody)).start(),
    )
  }

  static async start(
    t: { readonly teardown: (run: () => void) => void },
    settings: RigSettings,
  ): Promise<RelayRig> {
    const rig = new RelayRig(settings)
    rig.#server.listen(0, '127.0.0.1')
    await once(rig.#server, 'listening')
    t.teardown(() => rig.stop())
    return rig
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Makes a relay for a caller. */
  relay(caller: Channel): HttpRelay {
    const clock = this.#settings.clock ?? systemClock
    const parts = { caller, clock, random: systemRandom, watch: this.watch }
    const outcomes = {
      record: (outcome: Outcome) => {
        this.outcomes.push(outcome)
        this.#changes.emit('change')
      },
    }
    return new HttpRelay(
      { ...parts, steps: this.#steps(), outcomes, held: this.#settings.held },
      { ...httpRelayDefaults, ...this.#settings.relay },
    )
  }

  /** A caller's connection. */
  async call(text = ''): Promise<RawPeer> {
    const peer = await RawPeer.connect(this.port)
    this.#peers.push(peer)
    if (text !== '') peer.write(text)
    return peer
  }

  /** Waits for so many outcomes; answers the last one. */
  async recorded(count: number): Promise<Outcome> {
    await this.until(() => this.outcomes.length >= count)
    return this.outcomes[count - 1] as Outcome
  }

  /** Waits until an outcome or a channel given back makes `holds` true. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await once(this.#changes, 'change')
  }

  /** The decision to forward to an upstream. */
  forwardTo(index: number): Decision {
    const upstream = this.upstreams[index] as RigUpstream
    return { kind: 'forward', upstream, permit: mintPermit('test'), service, destination }
  }

  stop(): void {
    this.#server.close()
    for (const { pool } of this.upstreams) pool.close()
    for (const { socket } of this.#peers) socket.destroy()
  }

  #steps(): HttpSteps {
    const { direction = 'outbound', decide } = this.#settings
    let attempts = 0
    return {
      direction,
      source: rigSource,
      mtls: direction === 'inbound',
      callerAddress: direction === 'inbound' ? '' : '127.0.0.1',
      decide: (head) => {
        attempts = 0
        return decide === undefined ? this.forwardTo(0) : decide(head)
      },
      again: () => this.upstreams[++attempts] ?? null,
      reconsider: () => this.refusal,
      rest: () => {
        this.rests++
      },
    }
  }
}
