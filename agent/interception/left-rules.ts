/**
 * Owns letting go of capture rules by what stands in the kernel alone, whoever made them: how much of
 * them stays is the caller's word. Live connections are never cut: once nothing is led anywhere and no
 * connection passes through the rules, routes and table go.
 */

import { KernelSockets } from '#agent/kernel/sockets.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { callerPortRange } from './caller-ports.ts'
import { tableName } from './capture-state.ts'
import type { KernelCommands } from './commands.ts'
import {
  changesBetween,
  isSame,
  lifted,
  noElements,
  withoutStandIns,
  type Elements,
} from './elements.ts'
import { readListing } from './listing.ts'
import { commentFor } from './ruleset.ts'
import { VirtualRoutes, virtualRanges } from './virtual-routes.ts'

/** What it leans on. */
export interface LeftRulesParts {
  readonly logger: Logger
  readonly commands: Pick<KernelCommands, 'nft' | 'ask' | 'ip'>
  /** @default asks the kernel */
  readonly sockets?: Pick<KernelSockets, 'hasConnection'>
}

/** Settings. */
export interface LeftRulesSettings {
  /** As in the table's comment: other agents' rules are theirs. */
  readonly owner: string
  readonly firstPort: number
}

/** What stays: what each service said of a time without agent, only what it refuses then, or nothing. */
export type Staying = 'stances' | 'refusals' | 'nothing'

/** What became of them. */
export interface Letting {
  /** `in-use`: nothing is led anywhere, and they go with the last connection through them. */
  readonly kind: 'gone' | 'stands' | 'in-use'
  /** Whether the kernel was as it is now before. */
  readonly isUnchanged: boolean
  /** Why the routes are not as they should be, or ''. */
  readonly routeProblem: string
}

/** Our table as it stands, and the routes that belong to it. */
interface Standing {
  readonly elements: Elements
  /** Null where the host has no IPv6. */
  readonly range6: string | null
}

/** See the header. */
export class LeftRules {
  readonly #parts: LeftRulesParts
  readonly #settings: LeftRulesSettings
  #routes: VirtualRoutes | null = null
  #range6: string | null = null

  constructor(parts: LeftRulesParts, settings: LeftRulesSettings) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Lets go as far as it can now. @throws MeshError where the kernel may not be asked or changed */
  async letGo(staying: Staying): Promise<Letting> {
    const { commands, logger } = this.#parts
    const standing = await this.#standing()
    if (standing === null) {
      // Whoever removed the table meanwhile may have removed the routes before they were led anew.
      await this.#routes?.remove()
      const isUnchanged = this.#routes === null
      this.#routes = null
      return { kind: 'gone', isUnchanged, routeProblem: '' }
    }
    const { elements, range6 } = standing
    this.#range6 = range6
    const left = whatStays(elements, staying)
    const standIns = left.plain4.size + left.plain6.size
    const isUnchanged = isSame(left, elements)
    if (!isUnchanged) {
      await commands.nft(changesBetween(elements, left))
      const denied = left.destinations4.size + left.destinations6.size
      logger.warn({ denied, standIns }, 'capture lifted: no connection is taken any more')
    }
    const routes = (this.#routes ??= new VirtualRoutes(commands, range6))
    const routeProblem = await lead(routes, left)
    const stays = left.unknown_callers.size + left.confined_users.size + left.confined_units.size
    if (stays + standIns > 0) return { kind: 'stands', isUnchanged, routeProblem }
    if (await this.isInUse()) return { kind: 'in-use', isUnchanged, routeProblem }
    await routes.remove()
    this.#routes = null
    await commands.nft(`delete table inet ${tableName}\n`)
    logger.info('capture rules removed: no connection passes through them any more')
    return { kind: 'gone', isUnchanged: false, routeProblem }
  }

  /** Whether connections pass through the rules as they stood at the last look. */
  isInUse(): Promise<boolean> {
    const { sockets = new KernelSockets() } = this.#parts
    const ports = callerPortRange(this.#settings.firstPort)
    return sockets.hasConnection(ports, virtualRanges(this.#range6))
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

function whatStays(elements: Elements, staying: Staying): Elements {
  switch (staying) {
    case 'stances':
      return lifted(elements)
    case 'refusals':
      return withoutStandIns(lifted(elements))
    case 'nothing':
      return noElements()
  }
}

/** A route that cannot be led keeps nothing else from being lifted: answers why it could not. */
async function lead(routes: VirtualRoutes, left: Elements): Promise<string> {
  try {
    await routes.lead(left)
    if ((await routes.missing()) !== '') await routes.lead(left, true)
    return ''
  } catch (error) {
    return messageOf(error)
  }
}
