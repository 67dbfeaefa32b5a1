/**
 * Owns which files claim what: names, places, users and ports, of which each is one file's. It tells
 * whether files can be judged without the others, so that a change of one among a thousand costs a
 * look at that one. Pure.
 */

import { claimedBy, type Candidate, type JudgeRules } from './judge.ts'

/** Whose a file is: a local user's, or the administrator's (null). */
type Rank = string | null

/** What a file claims: by key whether files of one rank share it. */
interface Claimed {
  readonly rank: Rank
  readonly claims: ReadonlyMap<string, boolean>
}

const nothing: Claimed = { rank: null, claims: new Map() }

/** See the header. */
export class ClaimIndex {
  readonly #rules: Pick<JudgeRules, 'explicitAddress'>
  readonly #ofPath = new Map<string, Claimed>()
  /** Paths by key and rank: a thousand services of one rank may share a port. */
  readonly #claimants = new Map<string, Map<Rank, Set<string>>>()

  constructor(rules: Pick<JudgeRules, 'explicitAddress'>) {
    this.#rules = rules
  }

  /** Takes over what `candidates` claim, who are what there is at these `paths` now. */
  take(paths: ReadonlySet<string>, candidates: readonly Candidate[]): readonly Claimed[] {
    const before = Array.from(paths, (path) => this.#forget(path))
    return [...before, ...candidates.map((candidate) => this.#note(candidate))]
  }

  /**
   * The same; answers whether no file at another path is kept from any of it, or was from what was
   * claimed at these paths before.
   */
  areApart(paths: ReadonlySet<string>, candidates: readonly Candidate[]): boolean {
    return this.take(paths, candidates).every(({ rank, claims }) =>
      claims.entries().every(([key, isShared]) => {
        const others = this.#claimants.get(key)?.entries() ?? []
        for (const [other, claimants] of others) {
          if (isShared && other === rank) continue
          for (const path of claimants) if (!paths.has(path)) return false
        }
        return true
      }),
    )
  }

  #forget(path: string): Claimed {
    const claimed = this.#ofPath.get(path) ?? nothing
    this.#ofPath.delete(path)
    for (const key of claimed.claims.keys()) {
      const byRank = this.#claimants.get(key)
      const paths = byRank?.get(claimed.rank)
      paths?.delete(path)
      if (paths?.size === 0) byRank?.delete(claimed.rank)
      if (byRank?.size === 0) this.#claimants.delete(key)
    }
    return claimed
  }

  #note(candidate: Candidate): Claimed {
    const { path, user: rank } = candidate
    const claimed = { rank, claims: claimedBy(candidate, this.#rules) }
    this.#ofPath.set(path, claimed)
    for (const key of claimed.claims.keys()) {
      let byRank = this.#claimants.get(key)
      if (byRank === undefined) this.#claimants.set(key, (byRank = new Map()))
      const paths = byRank.get(rank)
      if (paths === undefined) byRank.set(rank, new Set([path]))
      else paths.add(path)
    }
    return claimed
  }
}
