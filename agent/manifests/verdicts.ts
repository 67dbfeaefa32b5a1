/**
 * Owns what has become of the manifests: the verdict on every file and what is in force, judged anew
 * from what is remembered of the files. Changes are logged once; what is accepted is kept for the next
 * run. It looks at no file.
 */

import { localAddresses } from '#shared/http/local-address.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import type { FileRecord } from './file-record.ts'
import type { GoodVersion, GoodVersions } from './good-versions.ts'
import { judge } from './judge.ts'
import type { OwnPlace } from './own-places.ts'
import type { Verdict } from './receipt.ts'
import type { UserServices } from './user-rules.ts'

/** Collaborators of verdicts. */
export interface VerdictsParts {
  readonly logger: Logger
  readonly goodVersions: GoodVersions
  /** Whether an IP address belongs to this host. @default asks the machine */
  readonly isLocal?: (address: string) => boolean
}

/** See the header. */
export class Verdicts {
  readonly #parts: VerdictsParts
  readonly #own: readonly OwnPlace[]
  #all: readonly Verdict[] = []
  #manifests: readonly Manifest[] = []

  /** `own`: where the agent itself listens. */
  constructor(parts: VerdictsParts, settings: { readonly own: readonly OwnPlace[] }) {
    this.#parts = parts
    this.#own = settings.own
  }

  /** The verdict on every file, by path. Frozen; another array after every change. */
  get all(): readonly Verdict[] {
    return this.#all
  }

  /** What is in force, by path. Frozen; another array after every change. */
  get manifests(): readonly Manifest[] {
    return this.#manifests
  }

  /** Judges all files; answers whether anything is different now. */
  judge(records: ReadonlyMap<string, FileRecord>, userServices: UserServices): boolean {
    const candidates = [...records].flatMap(([path, record]) => {
      const { version, lastManifest, user } = record
      if (version === null && lastManifest === null) return []
      // While its first version is in doubt, a file stands for what an earlier run accepted of it.
      const reading = version?.reading ?? { ok: false as const, problems: [] }
      return [{ path, user, mtimeMs: version?.mtimeMs ?? 0, reading, lastGood: lastManifest }]
    })
    const isLocal = this.#parts.isLocal ?? localAddresses()
    const judgements = judge(candidates, { isLocal, userServices, own: this.#own })
    const before = new Map(this.#all.map((verdict) => [verdict.path, verdict]))
    let changed = before.size !== judgements.length
    const verdicts = judgements.map((judgement): Verdict => {
      const record = records.get(judgement.path)
      const verdict = Object.freeze({ ...judgement, hash: record?.version?.hash ?? '' })
      if (judgement.verdict === 'accepted' && record?.version?.reading.ok === true) {
        const { text, reading } = record.version
        record.lastGood = { manifest: reading.manifest, text }
      }
      const known = before.get(verdict.path)
      before.delete(verdict.path)
      if (known !== undefined && sameVerdict(known, verdict)) return known
      changed = true
      this.#log(verdict)
      return verdict
    })
    for (const path of before.keys()) this.#parts.logger.info({ file: path }, 'manifest removed')
    if (!changed && before.size === 0) return false
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

function sameVerdict(a: Verdict, b: Verdict): boolean {
  return (
    a.hash === b.hash &&
    a.verdict === b.verdict &&
    a.manifest === b.manifest &&
    (a.problems === b.problems ||
      a.problems.map(renderProblem).join('\n') === b.problems.map(renderProblem).join('\n'))
  )
}
