/**
 * Owns what becomes of the capture rules when nobody takes captured connections any more, be the
 * agent killed or gone for good: what may pass without the mesh is let pass, virtual IPs of it too, what
 * may not stays refused, and once nothing is led anywhere and no connection passes through the rules,
 * they go. A process of its own; all it knows stands in the kernel.
 */

import { KernelSockets } from '#agent/kernel/sockets.ts'
import { sleep, type Clock, type Timer } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { callerPortRange } from './caller-ports.ts'
import { tableName } from './capture-state.ts'
import type { KernelCommands } from './commands.ts'
import { changesBetween, isSame, lifted, withoutStandIns, type Elements } from './elements.ts'
import { readListing } from './listing.ts'
import { commentFor } from './ruleset.ts'
import { VirtualRoutes, virtualRanges } from './virtual-routes.ts'

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
  /** From one look to the next; who takes nothing at two looks is gone. @default 1000 */
  readonly lookMs?: number
}

/** Longest wait for connections that end; whoever starts next goes on with it. */
const patienceMs = 60_000
/** So often the kernel may refuse to be asked before a guard that is stopped gives up. */
const mostRefusals = 10

/** Our table as it stands, and the routes that belong to it. */
interface Standing {
  readonly elements: Elements
  /** Null where the host has no IPv6. */
  readonly range6: string | null
}

/** See the header. */
export class CaptureGuard {
  readonly #parts: CaptureGuardParts
  readonly #settings: CaptureGuardSettings
  readonly #ended = Promise.withResolvers<number>()
  #timer: Timer | null = null
  #looking: Promise<void> = Promise.resolve()
  #silent = 0
  #routes: VirtualRoutes | null = null
  #problem = ''
  #routeProblem = ''
  #stopping = false

  constructor(parts: CaptureGuardParts, settings: CaptureGuardSettings) {
    this.#parts = parts
    this.#settings = settings
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
      const { sockets = new KernelSockets() } = this.#parts
      const isTaken = sockets.listens(callerPortRange(firstPort), agentUser)
      this.#silent = isTaken ? 0 : this.#silent + 1
      if (this.#silent < 2) return false
      try {
        const isDone = await this.#liftOrRemove()
        if (this.#routeProblem === '') this.#problem = ''
        return isDone
      } finally {
        // Whatever is in the way of the rules: names are given back.
        await this.#parts.onGone?.()
      }
    } catch (error) {
      this.#tell(messageOf(error))
      return false
    }
  }

  #tell(problem: string): void {
    if (problem !== this.#problem) this.#parts.logger.error({ problem }, 'capture guard')
    this.#problem = problem
  }

  async #liftOrRemove(): Promise<boolean> {
    const { commands, logger } = this.#parts
    const standing = await this.#standing()
    if (standing === null) {
      // Whoever removed the table meanwhile may have removed the routes before they were led anew.
      await this.#routes?.remove()
      this.#routes = null
      return true
    }
    const { elements, range6 } = standing
    // Who stops the guard for good wants nothing left that leads anywhere.
    const left = this.#stopping ? withoutStandIns(lifted(elements)) : lifted(elements)
    const standIns = left.plain4.size + left.plain6.size
    if (!isSame(left, elements)) {
      await commands.nft(changesBetween(elements, left))
      const denied = left.destinations4.size + left.destinations6.size
      logger.warn({ denied, standIns }, 'nobody takes captured connections: capture lifted')
    }
    const routes = (this.#routes ??= new VirtualRoutes(commands, range6))
    await this.#lead(routes, left)
    const stays = left.unknown_callers.size + left.confined_users.size + left.confined_units.size
    if (stays + standIns > 0) return true
    if (await this.#isInUse(range6)) return false
    await routes.remove()
    await commands.nft(`delete table inet ${tableName}\n`)
    logger.info('capture rules removed: no connection passes through them any more')
    return true
  }

  /** A route that cannot be led keeps nothing else from being lifted. */
  async #lead(routes: VirtualRoutes, left: Elements): Promise<void> {
    this.#routeProblem = ''
    try {
      await routes.lead(left)
      if ((await routes.missing()) !== '') await routes.lead(left, true)
    } catch (error) {
      this.#routeProblem = messageOf(error)
      this.#tell(this.#routeProblem)
    }
  }

  #isInUse(range6: string | null): Promise<boolean> {
    const { sockets = new KernelSockets() } = this.#parts
    return sockets.hasConnection(callerPortRange(this.#settings.firstPort), virtualRanges(range6))
  }

  async #standing(): Promise<Standing | null> {
    const { commands } = this.#parts
    try {
      const text = await commands.ask('-t', 'list', 'table', 'inet', tableName)
      if (!text.includes(`comment "${commentFor(this.#settings.owner)}"`)) return null
      const range6 = /ip6 daddr (\S+) jump virtual_in/.exec(text)?.[1]
      const listing = await commands.ask('-j', '-n', 'list', 'table', 'inet', tableName)
      return { elements: readListing(listing, []).elements, range6: range6 ?? null }
    } catch (error) {
      if (error instanceof MeshError && /No such file or directory/.test(error.message)) return null
      throw error
    }
  }
}
