/**
 * Owns what becomes of a join token found beside a valid certificate. One that is not the token this
 * host enrolled with is an operator's wish to enrol it again, as when it is to speak for more
 * services. A refused one is told, not tried again, and costs the host nothing it holds.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { parseJoinToken } from '#shared/pki/join-token.ts'
import { IdentitySlot, type IdentityProblem } from './identity-slot.ts'

/** What it leans on. */
export interface NewTokenParts {
  /** The join token, or null where there is none. */
  readonly joinToken: () => Promise<string | null>
  readonly enrol: (token: string) => Promise<void>
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Aborted when the failures of a stop are of no interest. */
  readonly signal: AbortSignal
}

/** The public part of a token. A malformed one has none, and is as good as any other of its kind. */
export function idOfToken(token: string): string {
  const parsed = parseJoinToken(token)
  return parsed.ok ? parsed.value.id : 'malformed'
}

/** See the header. */
export class NewToken {
  readonly #parts: NewTokenParts
  readonly #slot: IdentitySlot
  #refused: string | null = null

  constructor(parts: NewTokenParts) {
    this.#parts = parts
    this.#slot = new IdentitySlot(parts, { identity: 'host' })
  }

  /** Why the token that is there now was not taken. */
  get problem(): IdentityProblem | null {
    return this.#slot.problem
  }

  /** Looks whether another token came than the one the host is known to have `enrolledWith`. */
  async look(
    now: number,
    enrolledWith: string | null,
  ): Promise<'enrolled' | 'changed' | 'nothing'> {
    const slot = this.#slot
    if (slot.retryAtMs > now) return 'nothing'
    let id: string | null = null
    try {
      const token = await this.#parts.joinToken()
      id = token === null ? null : idOfToken(token)
      if (id !== null && id === this.#refused) return 'nothing'
      this.#refused = null
      const isNew = token !== null && id !== enrolledWith
      if (isNew) await this.#parts.enrol(token)
      else if (slot.problem === null) return 'nothing'
      slot.succeed()
      return isNew ? 'enrolled' : 'changed'
    } catch (error) {
      if (this.#parts.signal.aborted) return 'nothing'
      if (!(error instanceof MeshError && error.retry)) this.#refused = id
      slot.fail(error)
      return 'changed'
    }
  }
}
