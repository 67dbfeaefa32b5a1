/**
 * Owns the rules of what a host has to write: what it wants in the store, what this session is known
 * to have written, and the steps between the two. Pure; `session.ts` carries the steps out.
 */

/** One write to make. Farewells come one round before the deletes they announce. */
export type Step =
  | { readonly kind: 'put'; readonly key: string; readonly value: string }
  | { readonly kind: 'delete'; readonly key: string }

/** Where the publication of one key stands. */
export type Publication =
  | { readonly kind: 'none' }
  | { readonly kind: 'pending' }
  /** `revision` is that of the store with the write. */
  | { readonly kind: 'stored'; readonly revision: number }
  /** The store does not let this host write it; tried again once per lease time. */
  | { readonly kind: 'refused'; readonly problem: string }

/** Which of the keys that earlier sessions wrote are known to be in the store as they were written. */
export interface Standing {
  /** The revision up to which the store's history is the one that was seen. */
  readonly upTo: number
  /** Whether what happens to a key later is told. */
  readonly covers: (key: string) => boolean
}

interface OwnKey {
  /** Null: to be withdrawn. */
  wanted: string | null
  farewell: string | null
  /** What the store has under the lease of this session, null when nothing as far as is known. */
  stored: string | null
  /** The store's revision with that. */
  revision: number
  /** Whether a write was sent and not answered, or somebody else's was seen. */
  doubtful: boolean
  /** Whether any session may have written it, so that withdrawing means deleting. */
  sent: boolean
  refusal: string | null
  /** Outlives retries, so that a standing refusal is news once. */
  lastRefusal: string | null
}

/** Of more than so many the oldest is forgotten; the worst that comes of it is a delete too many. */
const mostWithdrawn = 1000

/** See the header. Bounded by what its caller wants. */
export class OwnKeys {
  readonly #keys = new Map<string, OwnKey>()
  /** At which revision keys were withdrawn, the oldest first: what is seen of them up to there is old. */
  readonly #withdrawn = new Map<string, number>()

  /** The whole desired set; `farewells` are remembered for keys withdrawn later. */
  want(desired: ReadonlyMap<string, string>, farewells: ReadonlyMap<string, string>): void {
    for (const [key, value] of desired) {
      const own = this.#keys.get(key)
      if (own === undefined) {
        this.#keys.set(key, newKey(value))
      } else {
        if (own.wanted !== value) own.refusal = null
        own.wanted = value
      }
    }
    for (const [key, own] of this.#keys) {
      own.farewell = farewells.get(key) ?? own.farewell
      if (desired.has(key)) continue
      if (own.sent) own.wanted = null
      else this.#keys.delete(key)
    }
  }

  /**
   * A new session: what earlier ones wrote may be gone or about to lapse, but for what stands in the history
   * that the session goes on from. What is in doubt is written again even so.
   */
  restart(standing: Standing | null = null): void {
    const { upTo, covers } = standing ?? { upTo: 0, covers: () => false }
    for (const [key, revision] of this.#withdrawn) if (revision > upTo) this.#withdrawn.delete(key)
    for (const [key, own] of this.#keys) {
      if (own.doubtful || own.revision > upTo || !covers(key)) {
        own.stored = null
        own.revision = 0
      }
      own.doubtful = false
      own.refusal = null
    }
  }

  /** The next writes, each key at most once; empty when the store has what is wanted. */
  nextSteps(limit: number): readonly Step[] {
    const steps: Step[] = []
    for (const [key, own] of this.#keys) {
      if (steps.length === limit) break
      const value = own.wanted ?? own.farewell
      if (own.refusal !== null) continue
      if (value !== null && own.stored !== value) steps.push({ kind: 'put', key, value })
      else if (own.wanted === null) steps.push({ kind: 'delete', key })
    }
    return steps
  }

  /** Called before a step goes out: from now on the key may exist. */
  sending(step: Step): void {
    const own = this.#keys.get(step.key)
    if (own === undefined) return
    own.sent = true
    own.doubtful = true
  }

  /** Whether a write of any such key was sent and not answered: it may still come to the store. */
  isDoubtful(isMeant: (key: string) => boolean): boolean {
    return this.#keys.entries().some(([key, own]) => own.doubtful && isMeant(key))
  }

  /** The store took a step; `revision` is its own since then. */
  done(step: Step, revision: number): void {
    const own = this.#keys.get(step.key)
    if (own === undefined) return
    own.doubtful = false
    // Something newer was seen before the answer came.
    if (revision < own.revision) return
    own.revision = revision
    if (step.kind === 'put') own.stored = step.value
    else if (own.wanted === null) this.#forget(step.key, revision)
    else own.stored = null
  }

  /** The store will not take a step. Answers whether that is news. */
  refused(step: Step, problem: string): boolean {
    const own = this.#keys.get(step.key)
    if (own === undefined) return false
    own.doubtful = false
    if (own.wanted === null) this.#keys.delete(step.key)
    const news = own.lastRefusal !== problem
    own.refusal = problem
    own.lastRefusal = problem
    return news
  }

  /** Refused keys are tried again. */
  retryRefused(): void {
    for (const own of this.#keys.values()) own.refusal = null
  }

  /**
   * A key stands in the store under the lease of this session: written by it, or by a session before
   * it whose write came late. Answers whether it has to be written again.
   */
  found(key: string, value: string, revision: number): boolean {
    let own = this.#keys.get(key)
    if (own === undefined) {
      if (revision <= (this.#withdrawn.get(key) ?? 0)) return false
      own = { ...newKey(null), sent: true }
      this.#keys.set(key, own)
    }
    if (revision <= own.revision) return false
    own.stored = value
    own.revision = revision
    return value !== own.wanted
  }

  /** Somebody else has written a key. It is left so, lest two fight, until a new session writes it again. */
  overwritten(key: string, revision: number): void {
    const own = this.#keys.get(key)
    if (own !== undefined && revision > own.revision) own.doubtful = true
  }

  /** A key was deleted at a revision. Answers whether it has to be put again. */
  lost(key: string, revision: number): boolean {
    const own = this.#keys.get(key)
    if (own === undefined || revision <= own.revision) return false
    own.revision = revision
    return this.#miss(own)
  }

  /** Those keys may have gone unseen. Answers whether any has to be put again. */
  doubt(isMeant: (key: string) => boolean): boolean {
    const doubted = [...this.#keys.keys()].filter(isMeant)
    return doubted.map((key) => this.#miss(this.#keys.get(key))).includes(true)
  }

  #miss(own: OwnKey | undefined): boolean {
    if (own === undefined || own.wanted === null || own.stored === null) return false
    own.stored = null
    return true
  }

  #forget(key: string, revision: number): void {
    this.#keys.delete(key)
    this.#withdrawn.delete(key)
    this.#withdrawn.set(key, revision)
    const [oldest] = this.#withdrawn.keys()
    if (this.#withdrawn.size > mostWithdrawn && oldest !== undefined) this.#withdrawn.delete(oldest)
  }

  /** Where a key stands. */
  publication(key: string): Publication {
    const own = this.#keys.get(key)
    if (own === undefined || own.wanted === null) return { kind: 'none' }
    if (own.refusal !== null) return { kind: 'refused', problem: own.refusal }
    return own.stored === own.wanted
      ? { kind: 'stored', revision: own.revision }
      : { kind: 'pending' }
  }
}

function newKey(wanted: string | null): OwnKey {
  return {
    wanted,
    farewell: null,
    stored: null,
    revision: 0,
    doubtful: false,
    sent: false,
    refusal: null,
    lastRefusal: null,
  }
}
