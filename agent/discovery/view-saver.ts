/**
 * Owns when the disk gets the view of the mesh, and when the store last vouched for the view. While its
 * session is up the disk is told so now and then, lest the view of a quiet mesh look old after a restart.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { LinkState } from '#shared/store/link.ts'
import type { CachedView } from './disk-cache.ts'

/** Collaborators of a saver. */
export interface ViewSaverParts {
  readonly clock: Clock
  readonly logger: Logger
  /** `DiskCache` fits. */
  readonly cache: { save(view: CachedView): Promise<void> }
  /** `StoreLink` fits. */
  readonly store: {
    readonly view: { readonly entries: { readonly size: number } }
    readonly state: LinkState
    onState(listener: (state: LinkState) => void): () => void
  }
  /** What to save; null while it is not of the store. */
  readonly view: () => Omit<CachedView, 'savedAtMs'> | null
}

/** Settings of a saver. */
export interface ViewSaverSettings {
  /** Changes within this long are saved together. */
  readonly gatherMs: number
  /** The disk is at most this long behind. */
  readonly saveMs: number
}

/** So many times what lies between two changes, lies between two saves of a view that does not change. */
const quietTimes = 60

/** See the header. */
export class ViewSaver {
  readonly #parts: ViewSaverParts
  readonly #settings: ViewSaverSettings
  readonly #unsubscribe: () => void
  #vouchedAtMs = 0
  #isUp: boolean
  #saving: Timer | null = null
  #refreshing: Timer | null = null
  #savedAtMs = -Infinity
  /** What is written next: the newest there is, however long the disk takes for another. */
  #waiting: CachedView | null = null
  #writing: Promise<void> | null = null
  #stopped = false

  constructor(parts: ViewSaverParts, settings: ViewSaverSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#isUp = parts.store.state.kind === 'connected'
    this.#unsubscribe = parts.store.onState(({ kind }) => this.#onState(kind))
  }

  /** When the store last vouched for the view, milliseconds since the epoch; 0 where that is not known. */
  get vouchedAtMs(): number {
    return this.#isUp ? this.#parts.clock.now() : this.#vouchedAtMs
  }

  /** What the disk knew of it. */
  restore(vouchedAtMs: number): void {
    this.#vouchedAtMs = vouchedAtMs
  }

  /** The store said something of the view. */
  vouched(): void {
    this.#vouchedAtMs = this.#parts.clock.now()
    this.later()
  }

  /** There is something to save. */
  later(): void {
    if (this.#stopped) return
    this.#saving ??= this.#parts.clock.after(this.#saveInMs(), () => this.#save())
  }

  /** Saves what has not been saved, and nothing after that. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#unsubscribe()
    if (this.#saving !== null || this.#refreshing !== null) this.#save()
    await this.#writing
  }

  #onState(kind: LinkState['kind']): void {
    const wasUp = this.#isUp
    this.#isUp = kind === 'connected'
    if (wasUp !== this.#isUp) this.vouched()
  }

  /**
   * At once after a quiet time, so that the disk has what the mesh was before it broke. The larger
   * the file, the less often it is written: at most a few per cent of the time.
   */
  #saveInMs(): number {
    const { gatherMs } = this.#settings
    const dueMs = this.#savedAtMs + this.#pauseMs - this.#parts.clock.elapsed()
    return Math.max(gatherMs, dueMs)
  }

  get #pauseMs(): number {
    return Math.max(this.#settings.saveMs, this.#parts.store.view.entries.size)
  }

  #save(): void {
    this.#saving?.stop()
    this.#saving = null
    this.#refreshing?.stop()
    this.#refreshing = null
    const { clock } = this.#parts
    const view = this.#parts.view()
    if (view === null) return
    this.#savedAtMs = clock.elapsed()
    if (this.#isUp && !this.#stopped) {
      this.#refreshing = clock.after(quietTimes * this.#pauseMs, () => this.#save())
    }
    this.#waiting = { ...view, savedAtMs: this.vouchedAtMs }
    this.#writing ??= this.#write()
  }

  async #write(): Promise<void> {
    const { cache, logger } = this.#parts
    for (let view = this.#waiting; view !== null; view = this.#waiting) {
      this.#waiting = null
      try {
        await cache.save(view)
      } catch (error) {
        const problem = messageOf(error)
        logger.error({ problem }, 'cannot keep the view of the mesh on the disk')
      }
    }
    this.#writing = null
  }
}
