/**
 * Owns the one session with the controller that is kept open between calls, so that a certificate
 * that is needed now waits for no handshake. It is made anew for another credential, another mesh or
 * after a failure, and closed once nobody has asked for a while. It calls nothing itself.
 */

import { isDeepStrictEqual } from 'node:util'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { ControllerPort, ControllerSession } from './controller-port.ts'
import type { HostFile } from './identity-files.ts'

/** Settings of a kept session. */
export interface KeptSessionSettings {
  /** Without a call for this long it is closed. A controller may have ten thousand hosts. @default 30000 */
  readonly idleMs?: number
}

interface Open {
  readonly session: ControllerSession
  readonly host: HostFile
}

/** See the header. */
export class KeptSession {
  readonly #controller: Pick<ControllerPort, 'open'>
  readonly #clock: Clock
  readonly #idleMs: number
  #open: Open | null = null
  /** Whoever was trusted when it began may not be any more. */
  #isStale = false
  #usedAt = 0
  #closing: Timer | null = null

  constructor(
    parts: { readonly controller: Pick<ControllerPort, 'open'>; readonly clock: Clock },
    settings: KeptSessionSettings = {},
  ) {
    this.#controller = parts.controller
    this.#clock = parts.clock
    this.#idleMs = settings.idleMs ?? 30_000
  }

  /** There may be something to ask: it stays open until `rest` at least. */
  hold(): void {
    this.#closing?.stop()
    this.#closing = null
  }

  /** The session of a host, held; throws where there can be none. */
  take(host: HostFile): ControllerSession {
    this.hold()
    this.#usedAt = this.#clock.elapsed()
    if (this.#open !== null && !this.#isStale && isSame(this.#open.host, host)) {
      return this.#open.session
    }
    this.close()
    this.#open = { session: this.#controller.open(host), host }
    return this.#open.session
  }

  /** There is nothing to ask for now: it is kept a while. */
  rest(): void {
    this.hold()
    if (this.#open === null) return
    const leftMs = this.#usedAt + this.#idleMs - this.#clock.elapsed()
    this.#closing = this.#clock.after(Math.max(0, leftMs), () => this.close())
  }

  /** What is trusted has changed: a call under way goes on, the next one proves its peer anew. */
  expire(): void {
    this.#isStale = true
  }

  /** Ends it, and every call on it. Idempotent. */
  close(): void {
    this.hold()
    this.#open?.session.close()
    this.#open = null
    this.#isStale = false
  }
}

/** Whether a session of the one would be a session of the other. */
function isSame(a: HostFile, b: HostFile): boolean {
  return a.credential.serial === b.credential.serial && isDeepStrictEqual(a.mesh, b.mesh)
}
