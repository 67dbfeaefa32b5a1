/**
 * Owns the dialled tunnels of a worker: at most one group per caller, service and far agent, dialled
 * when first needed, closed when idle, probed for life, replaced when credentials rotate. Who may
 * call whom is not decided here.
 */

import type { Logger } from '#shared/logging/logger.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import type { ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { HostView } from '#shared/model/snapshot.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { CredentialSource } from '#agent/identity/credentials.ts'
import type { Clock, Opener, Random } from '#agent/platform.ts'
import { DialTurns } from './dial-turns.ts'
import type { TunnelTarget } from './dial.ts'
import { PendingStream } from './pending-stream.ts'
import type { Tunnel, TunnelSettings } from './tunnel.ts'
import { TunnelGroup } from './tunnel-group.ts'

/** Whither a stream is to go. */
export interface StreamTarget {
  /** Whose certificate is shown. */
  readonly caller: SpiffeId
  /** Whose certificate is demanded. */
  readonly service: ServiceName
  readonly host: HostView
  /** Named in CONNECT, `<host>:<port>`; tells the far agent which instance is meant. */
  readonly authority: string
  readonly trustDomain: TrustDomain
}

/** What tunnels need. */
export interface TunnelsParts {
  readonly credentials: CredentialSource
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Counts finished handshakes. */
  readonly onHandshake?: (result: 'ok' | Reason, root: string | null) => void
  /** Bounds what waits for slow consumers; shared with the listener. @default 256 MiB */
  readonly held?: HeldBytes
  /** Told whether far hosts answer. */
  readonly onHost?: HostNews
}

/** Is told of far hosts; whom a tunnel to one serves makes no difference. */
export interface HostNews {
  /** It spoke, or took a tunnel. */
  heard(host: HostView): void
  /** It does not answer: `target` is a way to ask it again. */
  silent(host: HostView, target: TunnelTarget): void
}

/** Settings of all tunnels. */
export interface TunnelsSettings {
  /** TCP and TLS handshake together. @default 1000 */
  readonly connectTimeoutMs?: number
  /** A tunnel without a stream for this long is closed. @default 60000 */
  readonly idleMs?: number
  /**
   * Most tunnels at once, to all hosts. Of each worker, and not shared out: whatever its callers call,
   * every worker dials by itself. @default 4096
   */
  readonly maxTunnels?: number
  /** How often silent far agents are asked whether they live. @default 1000 */
  readonly pingEveryMs?: number
  /** Rounds without an answer after which a far agent is given nothing more. @default 1 */
  readonly missingRounds?: number
  /** Rounds without an answer after which its tunnels are closed. @default 3 */
  readonly deadRounds?: number
  /** How long the far agent may take to answer CONNECT. @default 10000 */
  readonly openTimeoutMs?: number
}

/** See the header. */
export class Tunnels {
  readonly #parts: TunnelsParts
  readonly #maxTunnels: number
  readonly #settings: TunnelSettings
  readonly #held: HeldBytes
  readonly #turns = new DialTurns()
  readonly #groups = new Map<string, TunnelGroup>()
  readonly #sweeping: Timer
  readonly #stopListening: readonly (() => void)[]
  #stopped = false

  constructor(parts: TunnelsParts, settings: TunnelsSettings = {}) {
    this.#parts = parts
    this.#held = parts.held ?? new HeldBytes({ limitBytes: 268_435_456 })
    this.#maxTunnels = settings.maxTunnels ?? 4096
    const roundMs = settings.pingEveryMs ?? 1000
    this.#settings = {
      connectTimeoutMs: settings.connectTimeoutMs ?? 1000,
      idleRounds: Math.ceil((settings.idleMs ?? 60_000) / roundMs),
      openRounds: Math.ceil((settings.openTimeoutMs ?? 10_000) / roundMs),
      missingRounds: settings.missingRounds ?? 1,
      deadRounds: settings.deadRounds ?? 3,
    }
    this.#sweeping = parts.clock.every(roundMs, () => this.#sweep())
    this.#stopListening = [
      parts.credentials.onRotated((id) => this.#rotate(id)),
      parts.credentials.onTrust(() => this.#judge()),
    ]
  }

  /** Tunnels open or being dialled. */
  get openTunnels(): number {
    let count = 0
    for (const group of this.#groups.values()) count += group.tunnels.size
    return count
  }

  /** Streams open in all tunnels, idle ones in pools included. */
  get openStreams(): number {
    let count = 0
    for (const tunnel of this.#all()) count += tunnel.streams
    return count
  }

  /**
   * Opens a CONNECT stream. The opener is answered exactly once, never before this returns; in
   * `onOpen` it must set the channel's sink at once.
   */
  openStream(target: StreamTarget, opener: Opener): void {
    const pending = new PendingStream({ opener }, { authority: target.authority })
    if (this.#stopped) {
      queueMicrotask(() => pending.refuse('draining', 'this agent is stopping'))
      return
    }
    const { caller, service, host } = target
    const key = `${caller} ${service} ${host.name} ${host.address} ${host.tunnelPort}`
    let group = this.#groups.get(key)
    if (group === undefined) {
      group = this.#makeGroup(target)
      this.#groups.set(key, group)
    }
    group.open(pending)
  }

  /**
   * A host answers again: it is dialled without a pause, and tunnels through which it stays silent
   * are closed.
   */
  answersAgain(host: HostView): void {
    for (const group of this.#groups.values()) {
      if (group.target.host.name !== host.name) continue
      group.forgive()
      for (const tunnel of group.tunnels) {
        if (tunnel.isMissing) tunnel.close('the far agent answers through new tunnels only')
      }
    }
  }

  /** Closes everything; streams still open are lost, new ones are refused as draining. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#sweeping.stop()
    for (const stop of this.#stopListening) stop()
    for (const group of this.#groups.values()) group.close('this agent is stopping')
    this.#groups.clear()
  }

  #makeGroup(target: StreamTarget): TunnelGroup {
    const { credentials, clock, random, logger, onHandshake, onHost } = this.#parts
    const { host } = target
    const parts = {
      credentials,
      clock,
      random,
      held: this.#held,
      turns: this.#turns,
      mayDial: () => this.#mayDial(),
      onDialled: (result: 'ok' | Reason, root: string | null) => onHandshake?.(result, root),
      onReached: () => onHost?.heard(host),
      onUnreachable: () => onHost?.silent(host, target),
      onTrouble: (detail: string) =>
        logger.warn({ caller: target.caller, service: target.service, detail }, 'tunnel failed'),
    }
    return new TunnelGroup(parts, target, this.#settings)
  }

  #mayDial(): boolean {
    if (this.openTunnels < this.#maxTunnels) return true
    for (const tunnel of this.#all()) {
      if (!tunnel.isIdle) continue
      tunnel.close('another tunnel is needed more')
      return true
    }
    return false
  }

  /** Somebody is banned. */
  #judge(): void {
    for (const tunnel of this.#all()) tunnel.judge()
  }

  #rotate(id: SpiffeId): void {
    for (const group of this.#groups.values()) if (group.target.caller === id) group.rotate()
  }

  /** Asks one tunnel of each silent host whether it lives, and all of them when it does not answer. */
  #sweep(): void {
    const heard = new Set<string>()
    const missing = new Set<string>()
    const news = this.#parts.onHost
    for (const [key, group] of this.#groups) {
      const { target, place } = group
      group.lookAtCredential()
      group.endWaiting()
      for (const tunnel of group.tunnels) {
        if (tunnel.listen()) {
          if (!heard.has(place)) news?.heard(target.host)
          heard.add(place)
        } else if (tunnel.isMissing) {
          if (!missing.has(place) && !heard.has(place)) news?.silent(target.host, target)
          missing.add(place)
        }
      }
      if (group.isEmpty) this.#groups.delete(key)
    }
    const asked = new Set<string>()
    for (const { place, tunnels } of this.#groups.values()) {
      for (const tunnel of tunnels) {
        const first = !heard.has(place) && !asked.has(place)
        if (!first && !tunnel.isDubious && !missing.has(place)) continue
        asked.add(place)
        tunnel.probe()
      }
    }
  }

  *#all(): Generator<Tunnel> {
    for (const group of this.#groups.values()) yield* group.tunnels
  }
}
