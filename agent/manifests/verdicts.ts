/**
 * Owns what has become of the manifests: the verdict on every file and what is in force, judged anew
 * from what is remembered of the files. Changes are logged once; what is accepted is kept for the next
 * run. It looks at no file.
 */

import { localAddresses } from '#shared/http/local-address.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import type { FileRecord } from './file-record.ts'
import type { GoodVersion, GoodVersions } from './good-versions.ts'
import { ClaimIndex } from './claim-index.ts'
import { judge, type Candidate, type Judgement } from './judge.ts'
import type { OwnPlace } from './own-places.ts'
import type { Verdict } from './receipt.ts'
import type { UserServices } from './user-rules.ts'

/** Collaborators of verdicts. */
export interface VerdictsParts {
  readonly clock: Pick<Clock, 'now'>
  readonly logger: Logger
  readonly goodVersions: GoodVersions
  /** Whether an IP address belongs to this host. @default asks the machine */
  readonly isLocal?: (address: string) => boolean
}

/** Settings of verdicts. */
export interface VerdictsSettings {
  /** Where the agent itself listens. */
  readonly own: readonly OwnPlace[]
  /** Where it opens local ports. */
  readonly explicitAddress: string
}

/** See the header. */
export class Verdicts {
  readonly #parts: VerdictsParts
  readonly #settings: VerdictsSettings
  readonly #claims: ClaimIndex
  readonly #byPath = new Map<string, Verdict>()
  /** Whether an address was of this host when somebody asked for it first. */
  #answers = new Map<string, boolean>()
  /** Whether all are to be judged again, whatever has become of addresses. */
  #again = false
  #all: readonly Verdict[] = []
  #manifests: readonly Manifest[] = []

  constructor(parts: VerdictsParts, settings: VerdictsSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#claims = new ClaimIndex(settings)
  }

  /** The verdict on every file, by path. Frozen; another array after every change. */
  get all(): readonly Verdict[] {
    return this.#all
  }

  /** What is in force, by path. Frozen; another array after every change. */
  get manifests(): readonly Manifest[] {
    return this.#manifests
  }

  /**
   * Judges the files that have changed since the last time, and with them all others if one of those
   * claims what a changed one claims or claimed; null: all, because rules may have changed. Answers
   * whether anything is different now.
   */
  judge(
    records: ReadonlyMap<string, FileRecord>,
    userServices: UserServices,
    changed: ReadonlySet<string> | null = null,
  ): boolean {
    const ask = this.#asking()
    const isLocal = (address: string): boolean => {
      const answer = ask(address)
      const first = this.#answers.get(address)
      if (first === undefined) this.#answers.set(address, answer)
      else if (first !== answer) this.#again = true
      return answer
    }
    const rules = { isLocal, userServices, ...this.#settings }
    const some = changed === null ? null : candidatesIn(records, changed)
    if (changed !== null && some !== null && this.#claims.areApart(changed, some)) {
      return this.#take(records, changed, judge(some, rules))
    }
    this.#answers = new Map()
    const all = candidatesIn(records, records.keys())
    this.#claims.take(new Set(records.keys()).union(this.#byPath), all)
    // Who was judged before the one that came into force now is told of that the next time.
    this.#again = this.#take(records, new Set(this.#byPath.keys()), judge(all, rules))
    return this.#again
  }

  /**
   * Whether all are to be judged anew: an address has come to this host, or has left it, or the last
   * judgement of all has changed what others may be told. Asks the machine for its addresses.
   */
  isOutdated(): boolean {
    const isLocal = this.#asking()
    // Nobody forgets what was asked for files that have gone, but a judgement of all.
    if (this.#again || this.#answers.size > 2 * this.#byPath.size + 64) return true
    return this.#answers.entries().some(([address, was]) => isLocal(address) !== was)
  }

  #asking(): (address: string) => boolean {
    return this.#parts.isLocal ?? localAddresses()
  }

  /** Takes over judgements; whoever was `asked` for and has none is gone. */
  #take(
    records: ReadonlyMap<string, FileRecord>,
    asked: ReadonlySet<string>,
    judgements: readonly Judgement[],
  ): boolean {
    const { clock, logger } = this.#parts
    const judgedAtMs = clock.now()
    const gone = new Set(asked)
    let changed = false
    for (const judgement of judgements) {
      const { path } = judgement
      gone.delete(path)
      const record = records.get(path)
      const hash = record?.version?.hash ?? ''
      const verdict = Object.freeze({ ...judgement, hash, judgedAtMs })
      if (judgement.verdict === 'accepted' && record?.version?.reading.ok === true) {
        const { text, reading } = record.version
        record.lastGood = { manifest: reading.manifest, text }
      }
      const known = this.#byPath.get(path)
      if (known !== undefined && sameVerdict(known, verdict)) continue
      changed = true
      this.#byPath.set(path, verdict)
      this.#log(verdict)
    }
    for (const path of gone) {
      if (!this.#byPath.delete(path)) continue
      changed = true
      logger.info({ file: path }, 'manifest removed')
    }
    if (!changed) return false
    const verdicts = [...this.#byPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
    this.#all = Object.freeze(verdicts)
    this.#manifests = Object.freeze(verdicts.flatMap(({ manifest }) => manifest ?? []))
    this.#keepGoodVersions(records)
    return true
  }

  #keepGoodVersions(records: ReadonlyMap<string, FileRecord>): void {
    const good = new Map<string, GoodVersion>()
    for (const [path, { lastGood }] of records) if (lastGood !== null) good.set(path, lastGood)
    this.#parts.goodVersions.keep(good)
  }

  #log({ path, verdict, manifest, problems }: Verdict): void {
    const { logger } = this.#parts
    const service = manifest?.service ?? null
    if (verdict === 'accepted') logger.info({ file: path, service }, 'manifest accepted')
    else if (problems.length > 0) {
      const inForce = manifest === null ? 'nothing' : 'its last good version'
      const lines = problems.map(renderProblem)
      const rules = problems.map(({ rule }) => rule)
      logger.warn({ file: path, service, inForce, problems: lines, rules }, 'manifest rejected')
    }
  }
}

/** The files of some paths that take part. */
function candidatesIn(
  records: ReadonlyMap<string, FileRecord>,
  paths: Iterable<string>,
): readonly Candidate[] {
  const candidates: Candidate[] = []
  for (const path of paths) {
    const record = records.get(path)
    if (record === undefined) continue
    const { version, lastManifest, user } = record
    if (version === null && lastManifest === null) continue
    // While its first version is in doubt, a file stands for what an earlier run accepted of it.
    const reading = version?.reading ?? { ok: false as const, problems: [] }
    candidates.push({ path, user, mtimeMs: version?.mtimeMs ?? 0, reading, lastGood: lastManifest })
  }
  return candidates
}

function sameVerdict(a: Verdict, b: Verdict): boolean {
  return (
    a.hash === b.hash &&
    a.verdict === b.verdict &&
    a.manifest === b.manifest &&
    (a.problems === b.problems ||
      a.problems.map(renderProblem).join('\n') === b.problems.map(renderProblem).join('\n'))
  )
}
