/**
 * Owns the manifests of this host: looks at the directory when something changes and every so often,
 * has all files judged together, and tells what is in force. A bad file changes nothing but its own
 * verdict. It registers nothing and opens no port.
 */

import { readdir } from 'node:fs/promises'
import { sleep, type Clock } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import { isLocalAddress } from '#shared/http/local-address.ts'
import { DirectoryWatch } from './directory-watch.ts'
import { FileRecord, settleMs } from './file-record.ts'
import type { GoodVersion, GoodVersions } from './good-versions.ts'
import { judge } from './judge.ts'
import { isManifestName, lookAt } from './manifest-file.ts'
import type { Verdict } from './receipt.ts'

/** Collaborators of a watcher. */
export interface ManifestWatcherParts {
  readonly clock: Clock
  readonly logger: Logger
  readonly goodVersions: GoodVersions
  /** Whether an IP address belongs to this host. @default asks the machine */
  readonly isLocal?: (address: string) => boolean
}

/** Settings of a watcher. */
export interface ManifestWatcherSettings {
  readonly directory: string
  /** From one unprompted look to the next. @default 2000 */
  readonly rescanMs?: number
  /** Changes within this long of each other are looked at together. @default 20 */
  readonly gatherMs?: number
}

/** Files read at the same time. */
const readersAtOnce = 16
/** More files than this are not looked at, the last ones by name. */
const mostFiles = 20_000

/** See the header. */
export class ManifestWatcher {
  readonly #parts: ManifestWatcherParts
  readonly #settings: ManifestWatcherSettings
  readonly #watch: DirectoryWatch
  readonly #records = new Map<string, FileRecord>()
  readonly #listeners = new Set<() => void>()
  #verdicts: readonly Verdict[] = []
  #manifests: readonly Manifest[] = []
  #earlier: ReadonlyMap<string, GoodVersion> = new Map()
  #directoryProblem = ''
  #stopping = new AbortController()
  #wake = new AbortController()
  #running: Promise<void> | null = null

  constructor(parts: ManifestWatcherParts, settings: ManifestWatcherSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#watch = new DirectoryWatch({ onHint: () => this.#wake.abort() }, settings)
  }

  /** What is in force, by path. Frozen; another array after every change. */
  get manifests(): readonly Manifest[] {
    return this.#manifests
  }

  /** The verdict on every file, by path. Frozen; another array after every change. */
  get verdicts(): readonly Verdict[] {
    return this.#verdicts
  }

  /** Why the directory cannot be read; empty while it can. */
  get directoryProblem(): string {
    return this.#directoryProblem
  }

  /** Calls back after every change of verdicts; answers how to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Begins; resolves after the first look, when the manifests that stand there are in force. */
  async start(): Promise<void> {
    if (this.#running !== null) return
    this.#stopping = new AbortController()
    this.#earlier = await this.#parts.goodVersions.load(this.#settings.directory)
    const inDoubt = await this.#scan()
    this.#running = this.#run(inDoubt)
  }

  /** Stops looking. What is in force stays so. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#wake.abort()
    this.#watch.stop()
    await this.#running
    this.#running = null
  }

  async #run(inDoubtAtFirst: boolean): Promise<void> {
    const { clock } = this.#parts
    const { rescanMs = 2000, gatherMs = 20 } = this.#settings
    let inDoubt = inDoubtAtFirst
    let tookMs = 0
    while (!this.#stopping.signal.aborted) {
      await sleep(clock, inDoubt ? settleMs / 2 : rescanMs, this.#wake.signal)
      // Never busy for more than a fifth of the time, however fast the directory changes.
      if (this.#wake.signal.aborted) {
        await sleep(clock, Math.max(gatherMs, 4 * tookMs), this.#stopping.signal)
      }
      if (this.#stopping.signal.aborted) return
      const startedAt = clock.elapsed()
      inDoubt = await this.#scan()
      tookMs = clock.elapsed() - startedAt
    }
  }

  /** Looks at everything; answers whether something is in doubt and wants another look soon. */
  async #scan(): Promise<boolean> {
    this.#wake = new AbortController()
    const unwatched = this.#watch.renew()
    if (this.#stopping.signal.aborted) this.#watch.stop()
    const names = await this.#list(unwatched)
    const paths =
      names === null
        ? new Set(this.#earlier.keys())
        : new Set(names.map((name) => `${this.#settings.directory}/${name}`))
    for (const path of paths) {
      if (!this.#records.has(path)) {
        this.#records.set(path, new FileRecord(this.#earlier.get(path) ?? null))
      }
    }
    if (names !== null) this.#earlier = new Map()
    const inDoubt = names === null ? false : await this.#lookAtAll(paths)
    this.#judge()
    return inDoubt
  }

  /** The names of manifests, or null where the directory is there but cannot be read. */
  async #list(unwatched: string): Promise<readonly string[] | null> {
    const { directory } = this.#settings
    try {
      const names = (await readdir(directory)).filter(isManifestName).sort()
      const extra = names.length - mostFiles
      this.#complain(extra > 0 ? `${extra} files more than ${mostFiles}; they are left out` : '')
      return names.slice(0, mostFiles)
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
      this.#complain(`cannot be read (${code === 'ENOENT' ? 'it does not exist' : code})`)
      return code === 'ENOENT' ? [] : null
    } finally {
      if (unwatched !== '') {
        this.#parts.logger.debug(
          { directory, reason: unwatched },
          'directory not watched, only polled',
        )
      }
    }
  }

  #complain(problem: string): void {
    if (problem === this.#directoryProblem) return
    this.#directoryProblem = problem
    const { directory } = this.#settings
    if (problem === '') this.#parts.logger.info({ directory }, 'manifest directory is readable')
    else this.#parts.logger.warn({ directory, problem }, 'manifest directory')
  }

  async #lookAtAll(paths: ReadonlySet<string>): Promise<boolean> {
    const { clock } = this.#parts
    let inDoubt = false
    const waiting = this.#records.entries()
    const reader = async (): Promise<void> => {
      for (const [path, record] of waiting) {
        // Taken before the look: a slow one must not make fresh content seem to have come to rest.
        const [now, elapsed] = [clock.now(), clock.elapsed()]
        const look = paths.has(path)
          ? await lookAt(path, record.stamp, now)
          : ({ kind: 'gone' } as const)
        const answer = record.see(look, now, elapsed)
        if (answer === 'again') inDoubt = true
        if (answer === 'forget') this.#records.delete(path)
      }
    }
    await Promise.all(Array.from({ length: readersAtOnce }, reader))
    return inDoubt
  }

  #judge(): void {
    const candidates = [...this.#records].flatMap(([path, record]) => {
      const { version, lastManifest } = record
      if (version === null && lastManifest === null) return []
      // While its first version is in doubt, a file stands for what an earlier run accepted of it.
      const reading = version?.reading ?? { ok: false as const, problems: [] }
      return [{ path, mtimeMs: version?.mtimeMs ?? 0, reading, lastGood: lastManifest }]
    })
    const judgements = judge(candidates, this.#parts.isLocal ?? isLocalAddress)
    const before = new Map(this.#verdicts.map((verdict) => [verdict.path, verdict]))
    let changed = before.size !== judgements.length
    const verdicts = judgements.map((judgement): Verdict => {
      const record = this.#records.get(judgement.path)
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
    for (const { path } of before.values())
      this.#parts.logger.info({ file: path }, 'manifest removed')
    if (!changed && before.size === 0) return
    this.#verdicts = Object.freeze(verdicts)
    this.#manifests = Object.freeze(verdicts.flatMap(({ manifest }) => manifest ?? []))
    this.#keepGoodVersions()
    for (const listener of this.#listeners) listener()
  }

  #keepGoodVersions(): void {
    const good = new Map<string, GoodVersion>()
    for (const [path, { lastGood }] of this.#records)
      if (lastGood !== null) good.set(path, lastGood)
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
    a.problems.map(renderProblem).join('\n') === b.problems.map(renderProblem).join('\n')
  )
}
