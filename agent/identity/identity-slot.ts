/**
 * Owns one identity of this host as it stands: what is held, when the next try may be, and what went
 * wrong last. The keeper decides what to do with it.
 */

import { Backoff } from '#shared/lifecycle/backoff.ts'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf as wordsOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { CredentialMessage } from '#agent/workers/messages.ts'
import type { HeldCredential } from './held-credential.ts'
import type { Standing } from './renewal.ts'
import { isValid, retryAfterMs } from './renewal.ts'

/** What went wrong last with an identity, for people. */
export interface IdentityProblem {
  /** `host`, or a service's name. */
  readonly identity: 'host' | ServiceName
  readonly code: string
  readonly message: string
  /** What to do about it; may be empty. */
  readonly hint: string
  /** Whether another try may work without anybody's help. */
  readonly retry: boolean
  /** Milliseconds since the epoch. */
  readonly atMs: number
}

/** See the header. */
export class IdentitySlot implements Standing {
  readonly identity: 'host' | ServiceName
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #backoff: Backoff
  /** Its own, so that whoever has no certificate finds soon that the controller is back. */
  readonly #awayBackoff: Backoff
  #retryAtMs = 0
  #problem: IdentityProblem | null = null
  held: HeldCredential | null = null
  /** Made once for what is held: a host may hold a thousand, and is asked for all at every change. */
  #handed: { readonly held: HeldCredential; readonly message: CredentialMessage } | null = null

  constructor(
    parts: { readonly clock: Clock; readonly random: Random; readonly logger: Logger },
    settings: {
      readonly identity: 'host' | ServiceName
      /** Longest wait between two tries. @default 150000 */
      readonly lastMs?: number
      /** The same for a controller that is away while no valid certificate is held. @default the same */
      readonly lastAwayMs?: number
    },
  ) {
    this.identity = settings.identity
    this.#clock = parts.clock
    this.#logger = parts.logger
    const { lastMs = 150_000, lastAwayMs = lastMs } = settings
    this.#backoff = new Backoff(parts, { firstMs: 500, lastMs })
    this.#awayBackoff = new Backoff(parts, { firstMs: 500, lastMs: lastAwayMs })
  }

  get retryAtMs(): number {
    return this.#retryAtMs
  }

  /** What a worker needs of what is held; the same object for as long as that is. */
  get message(): CredentialMessage | null {
    const { held } = this
    if (held === null) return null
    if (this.#handed?.held !== held) this.#handed = { held, message: messageOf(held) }
    return this.#handed.message
  }

  /** Null while the last try worked. */
  get problem(): IdentityProblem | null {
    return this.#problem
  }

  /** The last try worked. */
  succeed(): void {
    this.again()
    this.#problem = null
  }

  /** Something has changed: what was refused before may be tried at once. */
  again(): void {
    this.#backoff.reset()
    this.#awayBackoff.reset()
    this.#retryAtMs = 0
  }

  /** The last try failed. */
  fail(error: unknown): void {
    const known = error instanceof MeshError
    const atMs = this.#clock.now()
    // What could not be saved would be lost with this process: it is renewed, and so saved, again.
    if (known && error.code === 'state-unusable' && this.held !== null) {
      this.held = { ...this.held, renewAtMs: 0 }
    }
    const code = known ? error.code : 'internal'
    const isAway = code === 'controller-unavailable' && !isValid(this, atMs)
    const backoff = isAway ? this.#awayBackoff : this.#backoff
    this.#retryAtMs = atMs + retryAfterMs(backoff.nextMs(), this, atMs)
    const hint = known ? (error.hint ?? '') : ''
    const { identity } = this
    const retry = !known || error.retry
    const before = this.#problem
    this.#problem = { identity, code, message: wordsOf(error), hint, retry, atMs }
    const facts = { identity, code, retryInMs: Math.round(this.#retryAtMs - atMs) }
    if (known && before?.code === code) this.#logger.debug({ ...facts, hint }, error.message)
    else if (known) this.#logger.warn({ ...facts, hint }, error.message)
    else this.#logger.error({ ...facts, err: error }, 'an identity was not renewed')
  }
}

function messageOf({
  id,
  chainPem,
  keyPem,
  notAfterMs,
  serial,
}: HeldCredential): CredentialMessage {
  return { id, chainPem, keyPem, notAfterMs, serial }
}
