/**
 * Owns taking down what an earlier run left in the kernel where the config says that capture is off:
 * at once what leads or refuses connections, the rest with the last connection through it.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { LeftRules, type LeftRulesParts, type LeftRulesSettings } from './left-rules.ts'

/** What it leans on. */
export interface TakeDownParts extends LeftRulesParts {
  readonly clock: Clock
  readonly logger: Logger
  /** Told once what stood is gone; not told where nothing stood. */
  readonly onGone: () => void
}

/** Settings. */
export interface TakeDownSettings extends LeftRulesSettings {
  /** From one look whether connections still pass to the next. @default 1000 */
  readonly lookMs?: number
}

/** See the header. */
export class TakeDown {
  readonly #parts: TakeDownParts
  readonly #settings: TakeDownSettings
  readonly #rules: LeftRules
  #timer: Timer | null = null
  #looking: Promise<void> = Promise.resolve()
  #hasStood = false
  #problem = ''
  #stopped = false

  constructor(parts: TakeDownParts, settings: TakeDownSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#rules = new LeftRules(parts, settings)
  }

  /** Resolves after the first look. Never rejects. */
  async start(): Promise<void> {
    this.#looking = this.#look()
    await this.#looking
  }

  /** Leaves what is left to whoever comes next. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.stop()
    await this.#looking
  }

  async #look(): Promise<void> {
    const { clock, logger, onGone } = this.#parts
    try {
      const { kind, isUnchanged } = await this.#rules.letGo('nothing')
      this.#problem = ''
      this.#hasStood ||= kind !== 'gone' || !isUnchanged
      if (kind === 'gone') {
        if (this.#hasStood) onGone()
        return
      }
    } catch (error) {
      // Without the program no rules of ours were ever made.
      if (error instanceof MeshError && error.code === 'nft-missing') return
      const problem = messageOf(error)
      if (problem !== this.#problem) {
        logger.error({ problem }, 'capture is off, and what stands of it cannot be taken down')
      }
      this.#problem = problem
    }
    if (this.#stopped) return
    this.#timer = clock.after(this.#settings.lookMs ?? 1000, () => {
      this.#looking = this.#look()
    })
  }
}
