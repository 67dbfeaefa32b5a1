/**
 * Owns the addresses behind the names that manifests intercept: looked up when first asked for and
 * every so often, the last good answer kept while none comes.
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

/** See the header. */
export class NameTargets {
  readonly #parts: NameTargetsParts
  readonly #settings: NameTargetsSettings
  readonly #addresses = new Map<string, readonly string[]>()
  readonly #asked = new Set<string>()
  /** Why the last look at a name found nothing. */
  readonly #problems = new Map<string, string>()
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
    if (!this.#asked.has(host) && this.#asked.size < mostNames) {
      this.#asked.add(host)
      void this.#look(host)
      this.#again()
    }
    return (this.#addresses.get(host) ?? []).map((address) => ({ address, port }))
  }

  /** Why the last look at a name found nothing; empty where it did. */
  problemOf(name: string): string {
    return this.#problems.get(name) ?? ''
  }

  /** Whether an answer is still to come. */
  get isLooking(): boolean {
    return this.#looking > 0
  }

  /** Looks nothing up any more. */
  stop(): void {
    this.#stopped = true
    this.#timer?.stop()
  }

  #again(): void {
    this.#timer ??= this.#parts.clock.every(this.#settings.everyMs ?? 30_000, () => {
      for (const name of this.#asked) void this.#look(name)
    })
  }

  async #look(name: string): Promise<void> {
    this.#looking++
    // A name that does not resolve keeps its last good answer; one that never did leads nowhere.
    let problem = ''
    const answer = await (this.#parts.lookup ?? systemLookup)(name).catch((error: unknown) => {
      problem = messageOf(error)
      return []
    })
    this.#looking--
    if (this.#stopped) return
    const had = this.problemOf(name)
    if (problem === '') this.#problems.delete(name)
    else this.#problems.set(name, problem)
    const found = answer.toSorted((a, b) => (a < b ? -1 : 1))
    const isNews = found.length > 0 && found.join() !== this.#addresses.get(name)?.join()
    if (isNews) this.#addresses.set(name, found)
    if (isNews || problem !== had || this.#looking === 0) this.#parts.onChange()
  }
}

async function systemLookup(name: string): Promise<readonly string[]> {
  // No addresses of a family that this host has none of.
  const found = await lookup(name, { all: true, hints: ADDRCONFIG })
  return found.map(({ address }) => address)
}
