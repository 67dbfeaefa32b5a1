/**
 * Owns the watches of a session: which prefixes are followed, up to which revision each is known,
 * and whether the store tells anything. What it tells is the session's matter.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { KeyValue, StoreEvent, Watch } from './key-value.ts'

/** Collaborators. */
export interface FollowingParts {
  readonly store: Pick<KeyValue, 'watch'>
  readonly clock: Clock
  /** Changes below one prefix; what is not newer than `known` has been told before. */
  readonly onEvents: (events: readonly StoreEvent[], known: number) => void
  /** A watch has told everything there is. */
  readonly onProgress: () => void
  /** A watch is over. */
  readonly onEnd: (error: Error) => void
}

/** Settings. */
export interface FollowingSettings {
  /** A watch may tell nothing for so long while others do: it may be far behind. */
  readonly behindMs: number
}

/** A prefix that is watched. */
interface Followed {
  watch: Watch | null
  /** Everything up to there is known. */
  revision: number
  /** When it was told anything last, on the clock of elapsed time. */
  toldAt: number
}

/** See the header. */
export class Following {
  readonly #parts: FollowingParts
  readonly #settings: FollowingSettings
  readonly #followed = new Map<string, Followed>()
  #isHeard = true

  constructor(parts: FollowingParts, settings: FollowingSettings) {
    this.#parts = parts
    this.#settings = settings
  }

  /** The prefixes. */
  get prefixes(): ReadonlySet<string> {
    return new Set(this.#followed.keys())
  }

  /** Whether any watch has told anything since all were asked for a sign of life: they share a stream. */
  get isHeard(): boolean {
    return this.#isHeard
  }

  has(prefix: string): boolean {
    return this.#followed.has(prefix)
  }

  /** Whether a key is below any of the prefixes. */
  covers(key: string): boolean {
    return this.#followed.keys().some((prefix) => key.startsWith(prefix))
  }

  /**
   * Follows one more prefix, of which everything is known up to a revision. Its changes are told once more:
   * newer etcds say nothing of a watch that begins after what they have.
   */
  add(prefix: string, revision: number): void {
    const { clock, store, onEvents, onProgress, onEnd } = this.#parts
    const followed: Followed = { watch: null, revision, toldAt: clock.elapsed() }
    this.#followed.set(prefix, followed)
    followed.watch = store.watch(prefix, revision, {
      onEvents: (events) => {
        this.#hear(followed)
        const known = followed.revision
        for (const event of events) {
          const { modRevision } = event.kind === 'delete' ? event : event.entry
          followed.revision = Math.max(followed.revision, modRevision)
        }
        onEvents(events, known)
      },
      onProgress: () => {
        this.#hear(followed)
        onProgress()
      },
      onEnd,
    })
  }

  /** Follows a prefix no more; answers whether it did. */
  remove(prefix: string): boolean {
    this.#followed.get(prefix)?.watch?.cancel()
    return this.#followed.delete(prefix)
  }

  /** Ends every watch. */
  stop(): void {
    for (const { watch } of this.#followed.values()) watch?.cancel()
  }

  /** Asks for a sign of life, which is to come before it is demanded. */
  askForSignOfLife(): void {
    this.#isHeard = false
    this.ask()
  }

  /** Asks to be told when everything has been told. */
  ask(): void {
    for (const { watch } of this.#followed.values()) watch?.requestProgress()
  }

  /** @throws MeshError when the watches say nothing, or one of them has not for long */
  demandSignOfLife(): void {
    const since = this.#parts.clock.elapsed() - this.#settings.behindMs
    const silent = this.#followed.entries().find(([, { toldAt }]) => toldAt < since)?.[0]
    if (this.#isHeard && silent === undefined) return
    const words = this.#isHeard
      ? `the watch of ${silent} stays behind`
      : 'the watch has gone silent'
    throw new MeshError(`store: ${words}`, { code: 'store-timeout', retry: true })
  }

  #hear(followed: Followed): void {
    this.#isHeard = true
    followed.toldAt = this.#parts.clock.elapsed()
  }
}
