/**
 * Owns one dialled tunnel: from the dial to the last stream, and whether its far side still lives.
 * Which tunnel a stream takes is decided by its group.
 */

import type { TLSSocket } from 'node:tls'
import type { Reason } from '#shared/model/reason.ts'
import {
  Http2Connection,
  type ConnectionEnd,
  type ConnectionOwner,
} from '#agent/http2/connection.ts'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { CredentialSource, PeerIdentity } from '#agent/identity/credentials.ts'
import type { Clock } from '#agent/platform.ts'
import type { Turn } from './dial-turns.ts'
import { type DialResult, type TunnelTarget, dialTunnel } from './dial.ts'
import { PeerLife } from './peer-life.ts'
import type { PendingHost, PendingStream } from './pending-stream.ts'
import { connectFields } from './refusal.ts'

/** Is told what becomes of a tunnel. */
export interface TunnelOwner {
  /** It may have room for streams. */
  onRoom(): void
  /** Its far side has spoken: it took our certificate. */
  onWorking(): void
  /** It takes no more streams; those it has go on. */
  onRetired(): void
  /** It never came to work; `isUnreachable` when nobody answered at all. */
  onFailed(tunnel: Tunnel, reason: Reason, detail: string, isUnreachable: boolean): void
  /** It worked, and is over. */
  onClosed(tunnel: Tunnel, end: ConnectionEnd): void
  /** A stream is to be tried again. */
  onAgain(pending: PendingStream): void
}

/** What tunnels need. */
export interface TunnelParts {
  readonly credentials: CredentialSource
  readonly clock: Clock
  readonly held: HeldBytes
  /** `root` names the root the far side was proven under. */
  readonly onDialled: (result: 'ok' | Reason, root: string | null) => void
}

/** Settings of a tunnel. Rounds are those of {@link Tunnel.listen}. */
export interface TunnelSettings {
  readonly connectTimeoutMs: number
  /** Rounds without a stream after which it closes. */
  readonly idleRounds: number
  /** Rounds without an answer to a PING after which it is given no more streams. */
  readonly missingRounds: number
  /** Rounds without an answer to a PING after which it is dead. */
  readonly deadRounds: number
  /** Rounds a stream waits for the far agent's answer. */
  readonly openRounds: number
}

/** See the header. */
export class Tunnel implements ConnectionOwner, PendingHost {
  readonly #parts: TunnelParts
  readonly #owner: TunnelOwner
  readonly #settings: TunnelSettings
  readonly #cancelDial: () => void
  readonly #turn: Turn
  readonly #pending = new Set<PendingStream>()
  #connection: Http2Connection | null = null
  #peer: PeerIdentity | null = null
  #knowsLimits = false
  #over = false
  #life: PeerLife | null = null
  #idleRounds = 0

  constructor(
    parts: TunnelParts & {
      readonly owner: TunnelOwner
      /** Is given back once the far agent has taken the tunnel, or has not. */
      readonly turn: Turn
    },
    target: TunnelTarget,
    settings: TunnelSettings,
  ) {
    this.#parts = parts
    this.#owner = parts.owner
    this.#turn = parts.turn
    this.#settings = settings
    this.#cancelDial = dialTunnel(
      parts,
      target,
      { timeoutMs: settings.connectTimeoutMs },
      (result) => this.#dialled(result),
    )
  }

  /** True when a stream can be opened now. */
  get hasRoom(): boolean {
    return this.#connection?.canOpen === true && !this.isMissing
  }

  /** True while it may yet have room without a stream ending: dialling, or its limits unknown. */
  get mayHaveRoom(): boolean {
    if (this.#over || this.isMissing) return false
    return this.#connection === null || (this.#connection.isOpen && !this.#knowsLimits)
  }

  /** True while its far agent answers, and takes no streams: another tunnel would be told the same. */
  get isBarren(): boolean {
    return this.#connection?.isOpen === true && this.#connection.mayOpenNone && !this.isMissing
  }

  /** True until its handshake is over. */
  get isDialling(): boolean {
    return this.#connection === null && !this.#over
  }

  /** True when closing it would cost nobody anything. */
  get isIdle(): boolean {
    return this.#connection !== null && this.streams === 0
  }

  /** Streams open in it. */
  get streams(): number {
    return this.#connection?.streams.size ?? 0
  }

  /** Nothing was heard for a round and streams wait, or a long time has passed: ask. */
  get isDubious(): boolean {
    const silent = this.#life?.silentRounds ?? 0
    return silent > 0 && (this.#pending.size > 0 || silent % 10 === 0)
  }

  /** A PING has gone unanswered for too long to trust in. */
  get isMissing(): boolean {
    return this.#missingRounds >= this.#settings.missingRounds
  }

  /** Sends a wish for a stream; only where {@link hasRoom}. */
  open(pending: PendingStream): void {
    const fields = connectFields(pending.authority)
    const stream = this.#connection?.open(fields, { sink: pending, heads: pending }) ?? null
    if (stream === null) {
      this.#owner.onAgain(pending)
      return
    }
    this.#pending.add(pending)
    this.#idleRounds = 0
    pending.sent(stream, this)
  }

  /** Takes no more streams; closes after the last. */
  retire(): void {
    if (this.#connection !== null) {
      this.#connection.drain()
    } else if (!this.#over) {
      this.#over = true
      this.#cancelDial()
      this.#turn.end('unused')
    }
  }

  /** Closes now. */
  close(why: string): void {
    if (this.#connection === null) this.retire()
    else this.#connection.close(why)
  }

  /** What peers are held to has changed: closes where the far side is welcome no more. */
  judge(): void {
    const peer = this.#peer
    const problem = peer === null ? '' : this.#parts.credentials.refusal(peer)
    if (problem !== '') this.close(problem)
  }

  /** One round of sweeping: whether anything was heard since the last; ends what waited too long. */
  listen(): boolean {
    const connection = this.#connection
    const life = this.#life
    if (connection === null || life === null) return false
    const heard = life.listen()
    this.#idleRounds = this.streams === 0 ? this.#idleRounds + 1 : 0
    this.#endWaiting()
    if (life.missingRounds >= this.#settings.deadRounds) {
      connection.close('the far agent does not answer')
    } else if (this.#idleRounds >= this.#settings.idleRounds) {
      connection.drain()
    }
    return heard
  }

  /** Asks the far side whether it lives, unless it has been asked. */
  probe(): void {
    this.#life?.probe()
  }

  answered(pending: PendingStream): void {
    this.#pending.delete(pending)
  }

  again(pending: PendingStream): void {
    this.#owner.onAgain(pending)
  }

  onStream(): void {}

  onSettings(): void {
    if (!this.#knowsLimits) this.#owner.onWorking()
    this.#knowsLimits = true
    this.#owner.onRoom()
    this.#turn.end('worked')
  }

  onGoaway(): void {
    this.#owner.onRetired()
  }

  onStreamEnd(): void {
    this.#owner.onRoom()
  }

  onClose(end: ConnectionEnd): void {
    this.#over = true
    if (this.#knowsLimits) {
      this.#owner.onClosed(this, end)
    } else {
      // In TLS 1.3 a server judges the client's certificate after the client is done.
      const detail = `the far agent ended the handshake: ${end.message}`
      this.#owner.onFailed(this, 'tunnel-failed', detail, false)
    }
    this.#turn.end('failed')
  }

  get #missingRounds(): number {
    return this.#life?.missingRounds ?? 0
  }

  #dialled(result: DialResult): void {
    switch (result.kind) {
      case 'ready':
        this.#peer = result.peer
        this.#parts.onDialled('ok', result.peer.root)
        this.#begin(result.socket)
        break
      case 'failed':
        this.#over = true
        this.#parts.onDialled(result.reason, null)
        this.#owner.onFailed(this, result.reason, result.detail, result.isUnreachable)
        if (result.isUnreachable) this.#turn.unreached(result.reason, result.detail)
        this.#turn.end('failed')
        break
    }
  }

  #begin(socket: TLSSocket): void {
    const { clock, held } = this.#parts
    this.#connection = new Http2Connection({ socket, clock, owner: this, held }, { role: 'client' })
    this.#life = new PeerLife({ connection: this.#connection })
    this.#owner.onRoom()
  }

  #endWaiting(): void {
    for (const pending of this.#pending) {
      pending.rounds++
      if (this.isMissing) pending.refuse('tunnel-failed', 'the far agent does not answer')
      else if (pending.rounds > this.#settings.openRounds) {
        pending.refuse('tunnel-failed', 'the far agent did not answer CONNECT in time')
      }
    }
  }
}
