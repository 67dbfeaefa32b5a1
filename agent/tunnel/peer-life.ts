/**
 * Owns the question whether the far side of a connection still lives, asked in rounds: what is heard
 * answers it, else a PING does. Rounds, not milliseconds, so that a pause of this process never
 * looks like the death of another.
 */

import type { Http2Connection } from '#agent/http2/connection.ts'

/** See the header. */
export class PeerLife {
  readonly #connection: Http2Connection
  #bytesHeard = 0
  #silentRounds = 0
  #pingRounds: number | null = null

  constructor(parts: { readonly connection: Http2Connection }) {
    this.#connection = parts.connection
  }

  /** Rounds in a row without a byte. */
  get silentRounds(): number {
    return this.#silentRounds
  }

  /** Whole rounds a PING has gone unanswered; 0 while none has. */
  get missingRounds(): number {
    return this.#pingRounds ?? 0
  }

  /** A round has passed: whether anything was heard in it. */
  listen(): boolean {
    const { bytesRead } = this.#connection
    const heard = bytesRead !== this.#bytesHeard
    this.#bytesHeard = bytesRead
    this.#silentRounds = heard ? 0 : this.#silentRounds + 1
    if (this.#pingRounds !== null) this.#pingRounds = heard ? null : this.#pingRounds + 1
    return heard
  }

  /** Asks, unless it has been asked. */
  probe(): void {
    if (this.#pingRounds !== null) return
    this.#pingRounds = 0
    this.#connection.ping(() => {
      this.#pingRounds = null
    })
  }
}
