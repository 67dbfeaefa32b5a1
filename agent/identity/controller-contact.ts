/** Owns whether the controller answers, as the calls of the identity keeper show it. */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Contact } from '#shared/model/admin.ts'

/** See the header. */
export class ControllerContact {
  readonly #clock: Pick<Clock, 'now'>
  #state: Contact = { kind: 'unknown' }

  constructor(parts: { readonly clock: Pick<Clock, 'now'> }) {
    this.#clock = parts.clock
  }

  /** `sinceMs` is the first failure of the outage. */
  get state(): Contact {
    return this.#state
  }

  /** Takes what a call failed with, or null. A controller that refuses is there. */
  heard(error: unknown): void {
    const atMs = this.#clock.now()
    if (error instanceof MeshError && error.code.startsWith('controller-')) {
      const sinceMs = this.#state.kind === 'down' ? this.#state.sinceMs : atMs
      this.#state = { kind: 'down', sinceMs, reason: error.message }
    } else this.#state = { kind: 'up', atMs }
  }
}
