/**
 * Owns the idle, kept-alive channels of one upstream and one caller. Whatever a channel does while
 * nobody uses it, a byte, an end or a close, takes it out: what is handed out has been silent since
 * it came back. It knows nothing of HTTP; who gives a channel back vouches for it.
 */

import type { Channel, ChannelSink, Clock } from '#agent/platform.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'

/** Settings of a pool. */
export interface ChannelPoolSettings {
  /** A channel that nobody wanted for this long, or half of it, is closed. @default 30000 */
  readonly idleMs?: number
  /** Most idle channels; one more is closed. @default 1024 */
  readonly maxIdle?: number
}

/**
 * How long a connection to a service that says how long it keeps one may be idle here: it is closed
 * on this side first, because a request that meets the service's own close is lost or repeated.
 */
export function idleMsFor(keepAliveMs: number | undefined): number {
  const usual = 30_000
  return keepAliveMs === undefined ? usual : Math.min(usual, Math.max(200, keepAliveMs * 0.8))
}

/** See the header. */
export class ChannelPool {
  readonly #clock: Clock
  readonly #sweepMs: number
  readonly #maxIdle: number
  /** Idle channels, the last one released at the end. */
  #idle: IdleChannel[] = []
  /** Channels that were half-closed and owe us their goodbye. */
  #leaving: IdleChannel[] = []
  /** Runs only while there is something to sweep; one for all channels. */
  #timer: Timer | null = null
  #sweeps = 0
  #closed = false

  constructor(parts: { readonly clock: Clock }, settings: ChannelPoolSettings = {}) {
    this.#clock = parts.clock
    this.#sweepMs = (settings.idleMs ?? 30_000) / 2
    this.#maxIdle = settings.maxIdle ?? 1024
  }

  /** Channels that wait to be taken. */
  get idle(): number {
    return this.#idle.length
  }

  /** The channel used last, or null. Whoever takes it sets its sink at once. */
  take(): Channel | null {
    for (let entry = this.#idle.pop(); entry !== undefined; entry = this.#idle.pop()) {
      const { channel } = entry
      entry.pool = null
      if (channel.closed) continue
      if (channel.retiring !== true) return channel
      this.#dismiss(entry)
    }
    return null
  }

  /** Takes a channel into keeping, or closes it when it cannot be used again. */
  release(channel: Channel): void {
    if (channel.closed) return
    const entry = new IdleChannel(channel, this.#sweeps)
    channel.sink = entry
    const keep = !this.#closed && channel.retiring !== true && this.#idle.length < this.#maxIdle
    if (!keep) {
      this.#dismiss(entry)
      return
    }
    entry.pool = this
    this.#idle.push(entry)
    this.#startSweeping()
  }

  /** Closes the idle channels, and every one that is released from now on. */
  close(): void {
    this.#closed = true
    const idle = this.#idle
    this.#idle = []
    for (const entry of idle) this.#dismiss(entry)
  }

  /** For its channels: one of them is not idle any more. */
  drop(entry: IdleChannel): void {
    const at = this.#idle.lastIndexOf(entry)
    if (at >= 0) this.#idle.splice(at, 1)
  }

  /** For its channels: the far side wants to end one. */
  dismiss(entry: IdleChannel): void {
    this.drop(entry)
    this.#dismiss(entry)
  }

  #dismiss(entry: IdleChannel): void {
    entry.pool = null
    entry.channel.end()
    if (entry.channel.closed) return
    this.#leaving.push(entry)
    this.#startSweeping()
  }

  #startSweeping(): void {
    if (this.#timer === null) {
      this.#timer = this.#clock.after(this.#sweepMs, () => this.#sweep())
    }
  }

  #sweep(): void {
    this.#timer = null
    const leaving = this.#leaving
    this.#leaving = []
    for (const { channel } of leaving) channel.abort()
    // Between one and two rounds old, so that no clock is read when a channel is released.
    const kept = this.#idle.findIndex((entry) => this.#sweeps - entry.releasedAt < 1)
    const stale = this.#idle.splice(0, kept < 0 ? this.#idle.length : kept)
    for (const entry of stale) this.#dismiss(entry)
    this.#sweeps++
    if (this.#idle.length + this.#leaving.length > 0) this.#startSweeping()
  }
}

/** A channel while it is idle or on its way out. */
class IdleChannel implements ChannelSink {
  readonly channel: Channel
  /** The round of sweeping it was released in. */
  readonly releasedAt: number
  /** Null once it is idle no more. */
  pool: ChannelPool | null = null

  constructor(channel: Channel, releasedAt: number) {
    this.channel = channel
    this.releasedAt = releasedAt
  }

  onData(): void {
    this.pool?.drop(this)
    this.pool = null
    this.channel.abort()
  }

  onEnd(): void {
    this.pool?.dismiss(this)
  }

  onDrain(): void {}

  onClose(): void {
    this.pool?.drop(this)
    this.pool = null
  }
}
