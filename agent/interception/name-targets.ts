/**
 * Owns the addresses behind the names that manifests intercept: looked up when first asked for and
 * every so often, few at a time, the last good answer kept while none comes.
 */

import { ADDRCONFIG } from 'node:dns'
import { lookup } from 'node:dns/promises'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import { parseInterceptTarget } from '#shared/schema/manifest-capture.ts'
import type { Endpoint } from './capture-state.ts'

/** Settings. */
export interface NameTargetsSettings {
  /** @default 30000 */
  readonly everyMs?: number
}

/** What it leans on. */
export interface NameTargetsParts {
  readonly clock: Clock
  /** Told when a name leads elsewhere. */
  readonly onChange: () => void
  /** Answers the addresses of a name; throws where there are none. @default asks the system */
  readonly lookup?: (name: string) => Promise<readonly string[]>
}

/** More names than this are not looked up. */
const mostNames = 1000
/** Whoever answers for a name outside may say what he likes; this many addresses of it count. */
const mostAddresses = 64
/** Each holds a thread of the pool that reads files too, for as long as a resolver is silent. */
const mostAtOnce = 2

/** A name that was asked for. */
interface Known {
  addresses: readonly string[]
  /** Why the last look found nothing. */
  problem: string
  hasLooked: boolean
  /** Whether anybody has asked for it since the last round began. */
  isWanted: boolean
}

/** See the header. */
export class NameTargets {
  readonly #parts: NameTargetsParts
  readonly #settings: NameTargetsSettings
  readonly #names = new Map<string, Known>()
  /** To be looked at. */
  readonly #waiting = new Set<string>()
  #looking = 0
  #timer: Timer | null = null
  #stopped = false

  constructor(parts: NameTargetsParts, settings: NameTargetsSettings = {}) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Where a target leads now; a name that was never asked for is looked up, and answers later. */
  resolve(text: string): readonly Endpoint[] {
    const target = parseInterceptTarget(text)
    if (target === null) return []
    const { host, isName, port } = target
    if (!isName) return [{ address: host, port }]
    const known = this.#names.get(host)
    if (known !== undefined) {
      known.isWanted = true
      return known.addresses.map((address) => ({ address, port }))
    }
    if (this.#names.size < mostNames && !this.#stopped) {
      this.#names.set(host, { addresses: [], problem: '', hasLooked: false, isWanted: true })
      this.#waiting.add(host)
      this.#next()
      this.#timer ??= this.#parts.clock.every(this.#settings.everyMs ?? 30_000, () => this.#round())
    }
    return []
  }

  /** Why the last look at a name found nothing; empty where it did. */
  problemOf(name: string): string {
    const known = this.#names.get(name)
    if (known !== undefined) return known.problem
    const isTooMany = this.#names.size >= mostNames && parseInterceptTarget(`${name}:1`)?.isName
    return isTooMany === true ? `more than ${mostNames} names are looked up already` : ''
  }

  /** Whether the first answer of a name is still to come. */
  get isLooking(): boolean {
    return this.#names.values().some(({ hasLooked }) => !hasLooked)
  }

  /** Looks nothing up any more. */
  stop(): void {
    this.#stopped = true
    this.#waiting.clear()
    this.#timer?.stop()
  }

  /** Looks at all anew, once the last round is over; whom nobody has asked for since is forgotten. */
  #round(): void {
    if (this.#looking > 0) return
    for (const [name, known] of this.#names) {
      if (known.isWanted) this.#waiting.add(name)
      else this.#names.delete(name)
      known.isWanted = false
    }
    this.#next()
  }

  #next(): void {
    for (const name of this.#waiting) {
      if (this.#looking >= mostAtOnce) return
      this.#waiting.delete(name)
      this.#looking++
      void this.#look(name)
    }
  }

  async #look(name: string): Promise<void> {
    // A name that does not resolve keeps its last good answer; one that never did leads nowhere.
    let problem = ''
    const answer = await (this.#parts.lookup ?? systemLookup)(name).catch((error: unknown) => {
      problem = messageOf(error)
      return []
    })
    this.#looking--
    const known = this.#names.get(name)
    if (this.#stopped || known === undefined) return
    const found = answer.toSorted((a, b) => (a < b ? -1 : 1)).slice(0, mostAddresses)
    const isNews = found.length > 0 && found.join() !== known.addresses.join()
    const isOther = isNews || problem !== known.problem || !known.hasLooked
    if (isNews) known.addresses = found
    known.problem = problem
    known.hasLooked = true
    this.#next()
    if (isOther || this.#looking === 0) this.#parts.onChange()
  }
}

async function systemLookup(name: string): Promise<readonly string[]> {
  // No addresses of a family that this host has none of.
  const found = await lookup(name, { all: true, hints: ADDRCONFIG })
  return found.map(({ address }) => address)
}
