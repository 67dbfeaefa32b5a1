/**
 * Owns a clock that a test turns by hand. Timers fire in the order they are due, and whatever they
 * started is given a turn of the event loop before the next one.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'

interface Entry {
  due: number
  readonly everyMs: number | null
  readonly run: () => void
}

/** See the header. */
export class FakeClock implements Clock {
  readonly #entries = new Set<Entry>()
  readonly #epoch: number
  #elapsed = 0

  constructor(settings: { readonly epoch?: number } = {}) {
    this.#epoch = settings.epoch ?? Date.UTC(2026, 0, 1)
  }

  now(): number {
    return this.#epoch + this.#elapsed
  }

  elapsed(): number {
    return this.#elapsed
  }

  after(ms: number, run: () => void): Timer {
    return this.#add({ due: this.#elapsed + Math.max(0, ms), everyMs: null, run })
  }

  every(ms: number, run: () => void): Timer {
    return this.#add({ due: this.#elapsed + Math.max(1, ms), everyMs: Math.max(1, ms), run })
  }

  /** How many timers are pending. */
  get pending(): number {
    return this.#entries.size
  }

  /** Milliseconds until the next timer, or null. */
  get nextMs(): number | null {
    const next = this.#next()
    return next === null ? null : next.due - this.#elapsed
  }

  /** Lets `ms` pass, firing what falls due. */
  async advance(ms: number): Promise<void> {
    const end = this.#elapsed + ms
    await settle()
    for (let next = this.#next(); next !== null && next.due <= end; next = this.#next()) {
      this.#elapsed = Math.max(this.#elapsed, next.due)
      if (next.everyMs === null) this.#entries.delete(next)
      else next.due += next.everyMs
      next.run()
      await settle()
    }
    this.#elapsed = end
  }

  #add(entry: Entry): Timer {
    this.#entries.add(entry)
    return { stop: () => void this.#entries.delete(entry) }
  }

  #next(): Entry | null {
    let next: Entry | null = null
    for (const entry of this.#entries) if (next === null || entry.due < next.due) next = entry
    return next
  }
}

/** One turn of the event loop, with its promises. */
function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
