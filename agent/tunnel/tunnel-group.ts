/**
 * Owns the tunnels of one caller to one service on one host: usually one, more while its streams are
 * used up or while an old one finishes. Wishes that find no room wait here, in order and bounded.
 */

import { Backoff } from '#shared/lifecycle/backoff.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { Random } from '#agent/platform.ts'
import type { DialTurns, Dialler, Turn } from './dial-turns.ts'
import type { TunnelTarget } from './dial.ts'
import type { PendingStream } from './pending-stream.ts'
import { Tunnel, type TunnelOwner, type TunnelParts, type TunnelSettings } from './tunnel.ts'

/** Most wishes that wait for room in one group. */
const maxWaiting = 10_000

/** What groups need. */
export interface TunnelGroupParts extends TunnelParts {
  readonly random: Random
  /** Shared by all groups. */
  readonly turns: DialTurns
  /** Whether one more tunnel may be dialled; makes room by closing an idle one if it can. */
  readonly mayDial: () => boolean
  /** Told that a tunnel works, or that nobody answered a dial at all. */
  readonly onReached: () => void
  readonly onUnreachable: () => void
  /** Told why a tunnel did not come to work; once while the reason stays the same. */
  readonly onTrouble: (detail: string) => void
}

/** See the header. */
export class TunnelGroup implements TunnelOwner, Dialler {
  readonly target: TunnelTarget
  /** The far agent's address, by which tunnels to one host are probed together. */
  readonly place: string
  readonly #parts: TunnelGroupParts
  readonly #settings: TunnelSettings
  readonly #backoff: Backoff
  readonly #tunnels = new Set<Tunnel>()
  #waiting: PendingStream[] = []
  /** How many dials had worked a round ago, while it waits for its turn. */
  #workedBefore: number | null = null
  /** The last failure, which answers until the pause after it is over. */
  #failure: { readonly reason: Reason; readonly detail: string; readonly until: number } | null =
    null

  constructor(parts: TunnelGroupParts, target: TunnelTarget, settings: TunnelSettings) {
    this.#parts = parts
    this.target = target
    this.place = `${target.host.address} ${target.host.tunnelPort}`
    this.#settings = settings
    this.#backoff = new Backoff(parts, { firstMs: 20, lastMs: 1000 })
  }

  /** Its tunnels, as they are now. */
  get tunnels(): ReadonlySet<Tunnel> {
    return this.#tunnels
  }

  /** True when nothing would be lost with it. */
  get isEmpty(): boolean {
    const { size } = this.#tunnels
    return size === 0 && this.#waiting.length === 0 && !this.#isPausing
  }

  /** Sends a wish for a stream as soon as there is room. */
  open(pending: PendingStream): void {
    if (this.#waiting.length === 0) {
      for (const tunnel of this.#tunnels) {
        if (!tunnel.hasRoom) continue
        tunnel.open(pending)
        return
      }
    }
    if (this.#waiting.length >= maxWaiting) {
      refuseSoon(pending, 'overloaded', `${maxWaiting} streams wait for a tunnel to ${this.place}`)
      return
    }
    this.#waiting.push(pending)
    this.#makeRoom()
  }

  /** The caller's credential has changed: new streams take new tunnels. */
  rotate(): void {
    for (const tunnel of this.#tunnels) {
      if (tunnel.isDialling) this.#tunnels.delete(tunnel)
      tunnel.retire()
    }
    this.#failure = null
    if (this.#waiting.length > 0) this.#makeRoom()
  }

  /** The last failure means nothing any more. */
  forgive(): void {
    this.#backoff.reset()
    this.#failure = null
  }

  /** A certificate that has ended proves nothing: new streams wait for another one, in vain or not. */
  lookAtCredential(): void {
    if (this.#tunnels.size === 0) return
    if (this.#parts.credentials.contextFor(this.target.caller).kind === 'none') this.rotate()
  }

  /** One round of sweeping: who has waited too long for room is told so; not while its turn draws nearer. */
  endWaiting(): void {
    const { openRounds } = this.#settings
    const waiting = this.#waiting
    if (waiting.length === 0) return
    const worked = this.#parts.turns.workedFor(this.place, this)
    const isNearer = worked !== null && worked !== this.#workedBefore
    this.#workedBefore = worked
    if (isNearer) return
    const detail =
      worked === null
        ? `the far agent at ${this.place} takes no streams now`
        : `the far agent at ${this.place} takes no tunnels now, and others were to come first`
    this.#waiting = waiting.filter((pending) => ++pending.rounds <= openRounds)
    for (const pending of waiting) {
      if (pending.rounds > openRounds) refuseSoon(pending, 'tunnel-failed', detail)
    }
  }

  /** Closes every tunnel and refuses every wish. */
  close(why: string): void {
    this.#parts.turns.leave(this.place, this)
    this.#refuseWaiting('draining', why)
    for (const tunnel of this.#tunnels) tunnel.close(why)
    this.#tunnels.clear()
  }

  onRoom(): void {
    for (const tunnel of this.#tunnels) {
      while (tunnel.hasRoom && this.#waiting.length > 0) {
        tunnel.open(this.#waiting.shift() as PendingStream)
      }
    }
    if (this.#waiting.length > 0) this.#makeRoom()
  }

  onWorking(): void {
    this.forgive()
    this.#parts.onReached()
  }

  onRetired(): void {
    this.onRoom()
  }

  onFailed(tunnel: Tunnel, reason: Reason, detail: string, isUnreachable: boolean): void {
    this.#tunnels.delete(tunnel)
    if (this.#failure?.detail !== detail) this.#parts.onTrouble(detail)
    this.unreached(reason, detail)
    if (isUnreachable) this.#parts.onUnreachable()
  }

  unreached(reason: Reason, detail: string): void {
    const until = this.#parts.clock.elapsed() + this.#backoff.nextMs()
    this.#failure = { reason, detail, until }
    this.#refuseWaiting(reason, detail)
  }

  dial(turn: Turn): void {
    if (this.#waiting.length === 0 || !this.#needsMore) turn.end('unused')
    else if (this.#parts.mayDial()) {
      this.#tunnels.add(
        new Tunnel({ ...this.#parts, owner: this, turn }, this.target, this.#settings),
      )
    } else {
      turn.end('unused')
      this.#refuseWaiting('overloaded', 'this host has as many tunnels as it may')
    }
  }

  onClosed(tunnel: Tunnel): void {
    this.#tunnels.delete(tunnel)
    if (this.#waiting.length > 0) this.#makeRoom()
  }

  onAgain(pending: PendingStream): void {
    this.open(pending)
  }

  get #isPausing(): boolean {
    return this.#failure !== null && this.#parts.clock.elapsed() < this.#failure.until
  }

  /** Whether another tunnel would be of use: none may have room soon, or was told that there is none. */
  get #needsMore(): boolean {
    for (const tunnel of this.#tunnels) if (tunnel.mayHaveRoom || tunnel.isBarren) return false
    return true
  }

  /** Dials another tunnel in its turn, unless one may have room soon; refuses who waits after a failure. */
  #makeRoom(): void {
    if (!this.#needsMore) return
    if (this.#failure !== null && this.#isPausing) {
      this.#refuseWaiting(this.#failure.reason, this.#failure.detail)
    } else this.#parts.turns.ask(this.place, this)
  }

  #refuseWaiting(reason: Reason, detail: string): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const pending of waiting) refuseSoon(pending, reason, detail)
  }
}

/** Refuses a wish, but not while its opener is still in `openStream`. */
function refuseSoon(pending: PendingStream, reason: Reason, detail: string): void {
  queueMicrotask(() => pending.refuse(reason, detail))
}
