/**
 * Owns the questions that wait until a name of the mesh has an address on this host: a service that was
 * looked for is known a moment before captured connections to it are. Bounded in number and time.
 */

import type { Timer } from '#shared/lifecycle/clock.ts'
import type { Clock } from '#agent/platform.ts'

const waitMs = 1000
const mostWaiting = 1024

/** See the header. */
export class WantedNames {
  readonly #parts: { readonly clock: Clock; readonly has: (name: string) => boolean }
  readonly #waiting = new Set<{ readonly name: string; readonly done: () => void }>()

  constructor(parts: { readonly clock: Clock; readonly has: (name: string) => boolean }) {
    this.#parts = parts
  }

  /** Resolves when the name has an address, or after a second without. */
  wait(name: string): Promise<void> {
    const { clock, has } = this.#parts
    if (has(name) || this.#waiting.size >= mostWaiting) return Promise.resolve()
    return new Promise((resolve) => {
      let timer: Timer | null = null
      const waiting = {
        name,
        done: () => {
          timer?.stop()
          this.#waiting.delete(waiting)
          resolve()
        },
      }
      this.#waiting.add(waiting)
      timer = clock.after(waitMs, waiting.done)
    })
  }

  /** Names may have come. */
  refresh(): void {
    for (const { name, done } of this.#waiting) if (this.#parts.has(name)) done()
  }
}
