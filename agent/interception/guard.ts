/**
 * Owns what becomes of the capture rules when nobody takes captured connections any more, be the
 * agent killed or gone for good: what may pass without the mesh is let pass, virtual IPs of it too, what
 * may not stays refused, and once nothing is led anywhere and no connection passes through the rules,
 * they go; where the config says that capture is off, nothing stays. A process of its own; all it knows
 * stands in the kernel.
 */

import { KernelSockets } from '#agent/kernel/sockets.ts'
import { sleep, type Clock, type Timer } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { callerPortRange } from './caller-ports.ts'
import type { KernelCommands } from './commands.ts'
import { LeftRules, type Letting } from './left-rules.ts'

/** What a guard leans on. */
export interface CaptureGuardParts {
  readonly clock: Clock
  readonly logger: Logger
  readonly commands: KernelCommands
  /** @default asks the kernel */
  readonly sockets?: KernelSockets
  /** Takes back what else leads programs to an agent that is gone. @default nothing does */
  readonly onGone?: () => Promise<void>
}

/** Settings of a guard. */
export interface CaptureGuardSettings {
  /** As in the table's comment: other agents' rules are theirs. */
  readonly owner: string
  readonly firstPort: number
  /** Listeners of anybody else at those ports are not the agent's. */
  readonly agentUser: number
  /** Whether capture is off in the config by now: its owner does not restart the guard. @default never */
  readonly isOff?: () => boolean
  /** From one look to the next; who takes nothing at two looks is gone. @default 1000 */
  readonly lookMs?: number
}

/** Longest wait for connections that end; whoever starts next goes on with it. */
const patienceMs = 60_000
/** So often the kernel may refuse to be asked before a guard that is stopped gives up. */
const mostRefusals = 10
/** Looks that pass by rules which stand as they should: reading them costs programs and a long listing. */
const restLooks = 9

/** See the header. */
export class CaptureGuard {
  readonly #parts: CaptureGuardParts
  readonly #settings: CaptureGuardSettings
  readonly #sockets: KernelSockets
  readonly #rules: LeftRules
  readonly #ended = Promise.withResolvers<number>()
  #timer: Timer | null = null
  #looking: Promise<void> = Promise.resolve()
  #silent = 0
  #rest = 0
  #last: Letting['kind'] = 'stands'
  #problem = ''
  #stopping = false

  constructor(parts: CaptureGuardParts, settings: CaptureGuardSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#sockets = parts.sockets ?? new KernelSockets()
    this.#rules = new LeftRules(parts, settings)
  }

  /** Looks until stopped; calls back at once. */
  run(onStarted: () => void = () => {}): Promise<number> {
    onStarted()
    this.#wait()
    return this.#ended.promise
  }

  /**
   * Ends once what is to be done is done: nothing while somebody takes captured connections, for then
   * the guard is only being replaced.
   */
  async stop(): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    this.#timer?.stop()
    await this.#looking
    const { clock } = this.#parts
    const { lookMs = 1000 } = this.#settings
    const deadline = clock.elapsed() + patienceMs
    let refusals = 0
    // One look is enough: whoever stops the guard for good stops the rest before.
    for (this.#silent = 1; !(await this.#look()); this.#silent = 1) {
      if (this.#silent === 0 || clock.elapsed() >= deadline) break
      // Without the right to look there is nothing to wait for.
      refusals = this.#problem === '' ? 0 : refusals + 1
      if (refusals >= mostRefusals) break
      await sleep(clock, Math.min(lookMs, 200))
    }
    this.#ended.resolve(0)
  }

  /** Resolves when the look that has begun is over. */
  looked(): Promise<void> {
    return this.#looking
  }

  #wait(): void {
    if (this.#stopping) return
    this.#timer = this.#parts.clock.after(this.#settings.lookMs ?? 1000, () => {
      this.#looking = this.#look().then(() => this.#wait())
    })
  }

  /** Answers whether nothing is left to do. */
  async #look(): Promise<boolean> {
    try {
      const { firstPort, agentUser } = this.#settings
      const isTaken = this.#sockets.listens(callerPortRange(firstPort), agentUser)
      this.#silent = isTaken ? 0 : this.#silent + 1
      if (isTaken) this.#rest = 0
      if (this.#silent < 2) return false
      try {
        return !(await this.#isResting()) && (await this.#letGo())
      } finally {
        // Whatever is in the way of the rules: names are given back.
        await this.#parts.onGone?.()
      }
    } catch (error) {
      this.#tell(messageOf(error))
      return false
    }
  }

  /** Whether all is as the last look left it, as far as no program need be asked. */
  async #isResting(): Promise<boolean> {
    if (this.#stopping || this.#rest === 0) return false
    this.#rest--
    // The end of the last connection is worth a look.
    return this.#last !== 'in-use' || this.#rules.isInUse()
  }

  async #letGo(): Promise<boolean> {
    // Who stops the guard for good wants nothing left that leads anywhere.
    const staying =
      this.#settings.isOff?.() === true ? 'nothing' : this.#stopping ? 'refusals' : 'stances'
    const { kind, isUnchanged, routeProblem } = await this.#rules.letGo(staying)
    this.#last = kind
    this.#rest = isUnchanged && routeProblem === '' ? restLooks : 0
    this.#tell(routeProblem)
    return kind !== 'in-use'
  }

  #tell(problem: string): void {
    if (problem !== '' && problem !== this.#problem) {
      this.#parts.logger.error({ problem }, 'capture guard')
    }
    this.#problem = problem
  }
}
