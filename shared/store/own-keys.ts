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

interface OwnKey {
  /** Null: to be withdrawn. */
  wanted: string | null
  farewell: string | null
  /** What this session wrote, null when nothing yet. */
  stored: string | null
  /** The store's revision with what is stored. */
  revision: number
  /** Whether any session may have written it, so that withdrawing means deleting. */
  sent: boolean
  refusal: string | null
  /** Outlives retries, so that a standing refusal is news once. */
  lastRefusal: string | null
}

/** See the header. Bounded by what its caller wants. */
export class OwnKeys {
  readonly #keys = new Map<string, OwnKey>()

  /** The whole desired set; `farewells` are remembered for keys withdrawn later. */
  want(desired: ReadonlyMap<string, string>, farewells: ReadonlyMap<string, string>): void {
    for (const [key, value] of desired) {
      const own = this.#keys.get(key)
      if (own === undefined) {
        this.#keys.set(key, {
          wanted: value,
          farewell: null,
          stored: null,
          revision: 0,
          sent: false,
          refusal: null,
          lastRefusal: null,
        })
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

  /** A new session: what earlier ones wrote may be gone or about to lapse. */
  restart(): void {
    for (const own of this.#keys.values()) {
      own.stored = null
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
    if (own !== undefined) own.sent = true
  }

  /** The store took a step; `revision` is its own since then. */
  done(step: Step, revision: number): void {
    const own = this.#keys.get(step.key)
    if (own === undefined) return
    own.revision = revision
    if (step.kind === 'put') own.stored = step.value
    else if (own.wanted === null) this.#keys.delete(step.key)
    else own.stored = null
  }

  /** The store will not take a step. Answers whether that is news. */
  refused(step: Step, problem: string): boolean {
    const own = this.#keys.get(step.key)
    if (own === undefined) return false
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

  /** Somebody deleted a key. Answers whether it has to be put again. */
  lost(key: string): boolean {
    const own = this.#keys.get(key)
    if (own === undefined || own.wanted === null || own.stored === null) return false
    own.stored = null
    return true
  }

  /** Those keys may have gone unseen. Answers whether any has to be put again. */
  doubt(isMeant: (key: string) => boolean): boolean {
    const doubted = [...this.#keys.keys()].filter(isMeant)
    return doubted.map((key) => this.lost(key)).includes(true)
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
