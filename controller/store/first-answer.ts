/**
 * Owns the wait for an external store's first answer: asks once at start, and goes on asking with
 * backoff when nobody answered, so that a controller may start before its store. What happens to
 * the store later is not its business: every call says that itself.
 */

import { Backoff } from '#shared/lifecycle/backoff.ts'
import type { Clock, Random, Timer } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { tokensPrefix } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'

/** What it leans on. */
export interface FirstAnswerParts {
  readonly store: KeyValue
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Told once, when the store has answered. */
  readonly onAnswer: () => void
}

/** See the header. */
export class FirstAnswer {
  readonly #parts: FirstAnswerParts
  readonly #settings: { readonly endpoints: readonly string[]; readonly timeoutMs?: number }
  readonly #backoff: Backoff
  readonly #abort = new AbortController()
  #timer: Timer | null = null
  #running: Promise<void> = Promise.resolve()
  #waitsFor = 'the store: not asked yet'

  /** `endpoints` is for people to read; `timeoutMs` bounds one question, by default 3000. */
  constructor(
    parts: FirstAnswerParts,
    settings: { readonly endpoints: readonly string[]; readonly timeoutMs?: number },
  ) {
    this.#parts = parts
    this.#settings = settings
    this.#backoff = new Backoff(parts, { firstMs: 500, lastMs: 10_000 })
  }

  /** Why the store is not there yet; empty once it has answered. */
  get waitsFor(): string {
    return this.#waitsFor
  }

  /** Settles after the first try, whatever became of it. */
  start(): Promise<void> {
    this.#running = this.#ask()
    return this.#running
  }

  /** Gives up asking. */
  async stop(): Promise<void> {
    this.#abort.abort()
    this.#timer?.stop()
    await this.#running
  }

  async #ask(): Promise<void> {
    const { store, clock, logger, onAnswer } = this.#parts
    const { timeoutMs = 3000 } = this.#settings
    const { signal } = this.#abort
    try {
      await store.get(tokensPrefix, { timeoutMs, signal })
    } catch (error) {
      if (signal.aborted) return
      const endpoints = this.#settings.endpoints.join(',')
      this.#waitsFor = `the store at ${endpoints}: ${messageOf(error)}`
      logger.warn({ store: endpoints }, `the store at ${endpoints} does not answer; ${hint}`)
      this.#timer = clock.after(this.#backoff.nextMs(), () => void this.start())
      return
    }
    if (signal.aborted) return
    this.#waitsFor = ''
    onAnswer()
  }
}

const hint = 'not ready until it does: does it run there, and is the address right?'
