/**
 * Owns when a view of the mesh goes to workers and kernel. Workers that served before this control
 * process began keep the view they have until the first checks of this host's own instances are
 * done; else a restart would take them away for a moment. It makes no view.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'

/** What a hand-over leans on. */
export interface HandOverParts {
  readonly clock: Clock
  /** Whether this process knows of its own host what the one before it knew. */
  readonly isInformed: (snapshot: Snapshot) => boolean
  /** `WorkerHub.setSnapshot` fits: a provisional one is for workers that have none. */
  readonly toWorkers: (snapshot: Snapshot, provisional: boolean) => void
  /** `Interception.setSnapshot` fits. */
  readonly toKernel: (snapshot: Snapshot) => void
}

/** A restarted control process that has not found out about its own host by now never will. */
const settleMs = 10_000

/** See the header. */
export class HandOver {
  readonly #parts: HandOverParts
  #isSettled = false
  #timer: Timer | null = null

  constructor(parts: HandOverParts) {
    this.#parts = parts
  }

  /** Begins to wait for what there is to know; `newest` is what goes out when that takes too long. */
  start(newest: () => Snapshot): void {
    this.#timer = this.#parts.clock.after(settleMs, () => {
      this.#isSettled = true
      this.refresh(newest())
    })
  }

  stop(): void {
    this.#timer?.stop()
  }

  /** There may be a new view, or more may be known. */
  refresh(snapshot: Snapshot): void {
    const { isInformed, toWorkers, toKernel } = this.#parts
    this.#isSettled ||= isInformed(snapshot)
    if (snapshot.sequence === 0) return
    toWorkers(snapshot, !this.#isSettled)
    // Rules that stand lead where they did until then.
    if (this.#isSettled) toKernel(snapshot)
  }
}
