/**
 * Owns which files claim what: names, places, users and ports, of which each is one file's. It tells
 * whether files can be judged without the others, so that a change of one among a thousand costs a
 * look at that one. Pure.
 */

import { claimedBy, type Candidate, type JudgeRules } from './judge.ts'

/** See the header. */
export class ClaimIndex {
  readonly #rules: Pick<JudgeRules, 'explicitAddress'>
  readonly #ofPath = new Map<string, ReadonlySet<string>>()
  readonly #claimants = new Map<string, Set<string>>()

  constructor(rules: Pick<JudgeRules, 'explicitAddress'>) {
    this.#rules = rules
  }

  /**
   * Takes over what `candidates` claim, who are what there is at these `paths` now. Answers whether no
   * file at another path claims any of it, or any of what was claimed at these paths before.
   */
  areApart(paths: ReadonlySet<string>, candidates: readonly Candidate[]): boolean {
    const keys = new Set<string>()
    for (const path of paths) for (const key of this.#forget(path)) keys.add(key)
    for (const candidate of candidates) {
      for (const key of this.#note(candidate)) keys.add(key)
    }
    for (const key of keys) {
      for (const path of this.#claimants.get(key) ?? []) if (!paths.has(path)) return false
    }
    return true
  }

  #forget(path: string): ReadonlySet<string> {
    const keys = this.#ofPath.get(path) ?? new Set()
    this.#ofPath.delete(path)
    for (const key of keys) {
      const paths = this.#claimants.get(key)
      paths?.delete(path)
      if (paths?.size === 0) this.#claimants.delete(key)
    }
    return keys
  }

  #note(candidate: Candidate): ReadonlySet<string> {
    const keys = claimedBy(candidate, this.#rules)
    this.#ofPath.set(candidate.path, keys)
    for (const key of keys) {
      const paths = this.#claimants.get(key)
      if (paths === undefined) this.#claimants.set(key, new Set([candidate.path]))
      else paths.add(candidate.path)
    }
    return keys
  }
}
