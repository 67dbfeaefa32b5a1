/**
 * Owns one wish for a channel, so that an answer finds the attempt that asked and no later one: a
 * channel opened for a request that is over must not serve the next.
 */

import type { Channel, Opener } from '#agent/platform.ts'
import type { Reason } from '#shared/model/reason.ts'
import { discard } from './silence.ts'

/** Who waits for a channel. */
export interface Waiting {
  opened(channel: Channel): void
  openFailed(reason: Reason, detail: string): void
}

/** See the header. */
export class Opening implements Opener {
  #waiting: Waiting | null

  constructor(waiting: Waiting) {
    this.#waiting = waiting
  }

  /** Nobody waits any more. */
  cancel(): void {
    this.#waiting = null
  }

  onOpen(channel: Channel): void {
    const waiting = this.#waiting
    this.#waiting = null
    if (waiting === null) discard(channel)
    else waiting.opened(channel)
  }

  onOpenFailed(reason: Reason, detail: string): void {
    const waiting = this.#waiting
    this.#waiting = null
    waiting?.openFailed(reason, detail)
  }
}
