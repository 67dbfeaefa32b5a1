/**
 * Owns our nftables table and the routes of virtual IPs: brings them to a wanted state in one
 * transaction, reads back what stands, and repairs what others changed. It decides nothing, and it
 * never deletes a chain or rule while the table stands: that would reset the connections it led.
 */

import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { tableName, type CaptureState, type TableShape } from './capture-state.ts'
import type { KernelCommands } from './commands.ts'
import {
  changesBetween,
  deletedBetween,
  elementsOf,
  isSame,
  noElements,
  type Elements,
} from './elements.ts'
import { readCounters, readListing, type Listing } from './listing.ts'
import { isGroup } from './units.ts'
import { chainsOf, commentFor, rulesetText } from './ruleset.ts'
import { VirtualRoutes } from './virtual-routes.ts'

/** What a table leans on. */
export interface KernelTableParts {
  readonly commands: KernelCommands
  readonly logger: Logger
}

const echoPattern = /^delete element inet \S+ (\S+) \{ "?(.+?)"?(?: : .*)? \}$/

/** See the header. Calls are carried out one after the other. */
export class KernelTable {
  readonly #commands: KernelCommands
  readonly #logger: Logger
  readonly #shape: TableShape
  readonly #rules: Readonly<Record<string, readonly string[]>>
  readonly #routes: VirtualRoutes
  /** What stands in the kernel, as far as known; null: not looked, or not installed. */
  #standing: Elements | null = null
  #wanted: Elements = noElements()
  /** Elements that this process has deleted since the last check. */
  readonly #deleted = new Set<string>()
  #working: Promise<void> = Promise.resolve()

  constructor(parts: KernelTableParts, shape: TableShape) {
    this.#commands = parts.commands
    this.#logger = parts.logger
    this.#shape = shape
    this.#rules = chainsOf(shape)
    this.#routes = new VirtualRoutes(parts.commands, shape.virtualRange6)
  }

  /** What stands and what it is made of, as far as known; null while nothing of ours does. */
  get standing(): { readonly standing: Elements; readonly shape: TableShape } | null {
    return this.#standing === null ? null : { standing: this.#standing, shape: this.#shape }
  }

  /** Whether a table of ours stands in the kernel, be it an earlier process's. */
  stands(): Promise<boolean> {
    return this.#inTurn(async () => {
      const listing = await this.#list()
      if (listing === null) return false
      await this.#refuseForeign(listing)
      return true
    })
  }

  /** Brings the kernel to a state. @throws MeshError where it cannot; the kernel is as it was. */
  apply(state: CaptureState): Promise<void> {
    return this.#inTurn(async () => {
      const wanted = await withoutGone(elementsOf(state))
      this.#wanted = wanted
      if (this.#standing === null) return this.#install()
      const changes = changesBetween(this.#standing, wanted)
      if (changes === '') return
      for (const one of deletedBetween(this.#standing, wanted)) this.#deleted.add(one)
      try {
        await this.#commands.nft(changes)
        this.#standing = wanted
        await this.#routes.lead(wanted)
      } catch (error) {
        // Somebody else may have changed our sets: look, then do what is left.
        this.#logger.warn({ problem: messageOf(error) }, 'capture rules are not what they were')
        await this.#install()
      }
    })
  }

  /** Compares what stands with what was asked for, and mends it. Answers what was wrong, or ''. */
  check(): Promise<string> {
    return this.#inTurn(async () => {
      if (this.#standing === null) return ''
      this.#deleted.clear()
      const listing = await this.#list()
      const problem = listing === null ? 'the table was gone' : this.#problemOf(listing)
      const route = await this.#routes.missing()
      if (problem === '' && route === '') return ''
      await this.#install()
      return problem || `the route of ${route} was not what it was`
    })
  }

  /** Whether a line of `nft monitor` tells of an element that this process has deleted itself; true once for each. */
  isEcho(line: string): boolean {
    const [, name = '', key = ''] = echoPattern.exec(line) ?? []
    return this.#deleted.delete(`${name} ${key}`)
  }

  /** How many connections each counter has seen since it was last there anew. */
  counts(): Promise<ReadonlyMap<string, number>> {
    return this.#inTurn(async () => {
      if (this.#standing === null) return new Map()
      return readCounters(
        await this.#commands.ask('-j', 'list', 'counters', 'table', 'inet', tableName),
      )
    })
  }

  /**
   * Removes routes and table. Connections that still pass through them end, so this is for when
   * there is none left: until then, apply `nothing`.
   */
  remove(): Promise<void> {
    return this.#inTurn(async () => {
      this.#standing = null
      await this.#routes.remove()
      const listing = await this.#list()
      if (listing === null) return
      await this.#refuseForeign(listing)
      await this.#commands.nft(`delete table inet ${tableName}\n`)
    })
  }

  async #install(): Promise<void> {
    const before = await this.#list()
    if (before !== null) await this.#refuseForeign(before)
    const elements = before?.elements ?? noElements()
    this.#wanted = await withoutGone(this.#wanted)
    await this.#commands.nft(rulesetText(this.#shape) + changesBetween(elements, this.#wanted))
    // The guards stand before anything can reach a virtual IP.
    await this.#routes.lead(this.#wanted, true)
    const after = await this.#list()
    const problem = after === null ? 'it is gone' : this.#problemOf(after)
    if (problem !== '') {
      throw new MeshError(`the capture rules just written read back differently: ${problem}`, {
        code: 'capture-not-verified',
        hint: 'something else changes our table: find it with "nft monitor"',
        retry: true,
      })
    }
    this.#standing = this.#wanted
  }

  #problemOf(listing: Listing): string {
    const differing = Object.entries(this.#rules).find(
      ([chain, rules]) => listing.rules[chain] !== rules.length,
    )
    if (differing !== undefined) {
      const [chain, rules] = differing
      return `chain ${chain} had ${listing.rules[chain] ?? 0} rules instead of ${rules.length}`
    }
    return isSame(listing.elements, this.#wanted) ? '' : 'its elements had been changed'
  }

  /** A table of this name that another program, or another agent, has made is left alone. */
  async #refuseForeign({ strangers }: Listing): Promise<void> {
    const text = await this.#commands.ask('-t', 'list', 'table', 'inet', tableName)
    const comment = /^\tcomment "(.*)"$/m.exec(text)?.[1] ?? ''
    // Another version of ours may have made chains and sets that this one does not know.
    if (comment === commentFor(this.#shape.owner)) return
    const whose =
      comment === '' ? `has ${strangers.join(', ') || 'no mark of ours'}` : `is of ${comment}`
    throw new MeshError(`the nftables table inet ${tableName} is not this agent’s: it ${whose}`, {
      code: 'foreign-table',
      hint: `stop that agent, or remove the table with "nft delete table inet ${tableName}"`,
    })
  }

  async #list(): Promise<Listing | null> {
    try {
      const text = await this.#commands.ask('-j', '-n', 'list', 'table', 'inet', tableName)
      return readListing(text, Object.keys(this.#rules))
    } catch (error) {
      if (error instanceof MeshError && /No such file or directory/.test(error.message)) return null
      throw error
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#working.then(work)
    this.#working = done.then(ignore, ignore)
    return done
  }
}

/** Without the units that have ended meanwhile: nft takes a transaction with such a group for wrong. */
async function withoutGone(elements: Elements): Promise<Elements> {
  const left = { ...elements }
  for (const name of ['unit_callers', 'confined_units'] as const) {
    const units = new Map(elements[name])
    for (const [path, value] of units) {
      const id = Number(value.split(' ')[1])
      if (!(await isGroup({ path, id }))) units.delete(path)
    }
    left[name] = units
  }
  return left
}

function ignore(): void {}
