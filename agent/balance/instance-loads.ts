/**
 * Owns how many calls each instance of this host carries in this worker, and how many it may: one
 * count for what far hosts send and what callers of this host do. Pure.
 */

import type { LocalInstance } from '#shared/model/snapshot.ts'

/** The load of one instance. Lives on through snapshots. */
export class InstanceLoad {
  /** Requests (HTTP) or connections (TCP) under way. */
  active = 0
  /** Most of them; Infinity where the manifest sets no limit. */
  limit = Infinity

  /** Whether one more would be too many. */
  get isFull(): boolean {
    return this.active >= this.limit
  }
}

/** See the header. */
export class InstanceLoads {
  readonly #shareOf: (limit: number) => number
  #loads = new Map<string, InstanceLoad>()

  constructor(settings: {
    /** This worker's part of a limit of the host. */
    readonly shareOf: (limit: number) => number
  }) {
    this.#shareOf = settings.shareOf
  }

  /** Takes over the limits of a snapshot; what is under way stays counted. */
  apply(local: readonly LocalInstance[]): void {
    const before = this.#loads
    this.#loads = new Map()
    for (const { service, id, maxConcurrent } of local) {
      const key = `${service} ${id}`
      const load = before.get(key) ?? new InstanceLoad()
      load.limit = maxConcurrent === undefined ? Infinity : this.#shareOf(maxConcurrent)
      this.#loads.set(key, load)
    }
  }

  /** What is under way to each service of the newest snapshot. */
  get carried(): readonly { readonly service: string; readonly open: number }[] {
    return Array.from(this.#loads, ([key, { active }]) => ({
      service: key.slice(0, key.indexOf(' ')),
      open: active,
    }))
  }

  /** The load of an instance of the newest snapshot; a new one counts from nothing. */
  of(service: string, id: string): InstanceLoad {
    const key = `${service} ${id}`
    let load = this.#loads.get(key)
    if (load === undefined) this.#loads.set(key, (load = new InstanceLoad()))
    return load
  }
}
