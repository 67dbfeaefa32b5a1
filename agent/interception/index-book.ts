/**
 * Owns numbers given out to names: virtual IPs to services, ports to callers. A name's own hash says
 * where to look first, so that hosts mostly agree and a lost file changes little; a number that was
 * given out is not given to another name for a while. Times are arguments; the file is not ours.
 */

import { createHash } from 'node:crypto'

/** A number that was given out, as it is kept. */
export interface Grant {
  readonly name: string
  /** From 1. */
  readonly index: number
  /** When the name was last in use, milliseconds since the epoch. */
  readonly seenMs: number
}

/** Settings of a book. */
export interface IndexBookSettings {
  /** The highest number. */
  readonly count: number
  /** How long a number stays with a name that is gone. */
  readonly quarantineMs: number
}

/** See the header. */
export class IndexBook {
  readonly #settings: IndexBookSettings
  readonly #grants = new Map<string, Grant>()
  readonly #holders = new Map<number, string>()

  /** @param grants - what an earlier run kept; of two for one number the first counts */
  constructor(settings: IndexBookSettings, grants: Iterable<Grant> = []) {
    this.#settings = settings
    for (const grant of grants) {
      const isFit = grant.index >= 1 && grant.index <= settings.count
      if (isFit && !this.#holders.has(grant.index) && !this.#grants.has(grant.name))
        this.#give(grant)
    }
  }

  /** What is to be kept. */
  get grants(): readonly Grant[] {
    return [...this.#grants.values()]
  }

  /** The number of a name that is in use now; null when all are taken. */
  indexOf(name: string, nowMs: number): number | null {
    const known = this.#grants.get(name)
    const index = known?.index ?? this.#free(name, nowMs)
    if (index !== null) this.#give({ name, index, seenMs: Math.max(nowMs, known?.seenMs ?? 0) })
    return index
  }

  #free(name: string, nowMs: number): number | null {
    const { count, quarantineMs } = this.#settings
    const first = createHash('sha256').update(name).digest().readUInt32BE() % count
    for (let step = 0; step < count; step++) {
      const index = ((first + step) % count) + 1
      const holder = this.#holders.get(index)
      if (holder === undefined) return index
      const grant = this.#grants.get(holder)
      if (grant !== undefined && nowMs - grant.seenMs < quarantineMs) continue
      this.#grants.delete(holder)
      return index
    }
    return null
  }

  #give(grant: Grant): void {
    this.#grants.set(grant.name, grant)
    this.#holders.set(grant.index, grant.name)
  }
}
