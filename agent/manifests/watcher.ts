/**
 * Owns the manifests of this host: looks at their directories when something changes and every so often,
 * has all files judged together, and tells what is in force. A bad file changes nothing but its own
 * verdict. It registers nothing and opens no port.
 */

import { dirname } from 'node:path'
import { sleep, type Clock } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import { isLocalAddress } from '#shared/http/local-address.ts'
import { DirectoryWatch } from './directory-watch.ts'
import { FileRecord, settleMs } from './file-record.ts'
import type { GoodVersion, GoodVersions } from './good-versions.ts'
import { judge } from './judge.ts'
import type { OwnPlace } from './own-places.ts'
import { LocalUsers } from './local-users.ts'
import { lookAt } from './manifest-file.ts'
import { lookAround, type Place, type Places } from './places.ts'
import type { Verdict } from './receipt.ts'
import type { UserServices } from './user-rules.ts'

/** Collaborators of a watcher. */
export interface ManifestWatcherParts {
  readonly clock: Clock
  readonly logger: Logger
  readonly goodVersions: GoodVersions
  /** Whether an IP address belongs to this host. @default asks the machine */
  readonly isLocal?: (address: string) => boolean
  /** The number of a local user; null where there is none. @default asks the machine */
  readonly uidOf?: (user: string) => Promise<number | null>
}

/** Settings of a watcher. */
export interface ManifestWatcherSettings {
  readonly directory: string
  /** From one unprompted look to the next. @default 2000 */
  readonly rescanMs?: number
  /** Changes within this long of each other are looked at together. @default 20 */
  readonly gatherMs?: number
  /** Globs of services by local user, beside the one of his own name. @default none */
  readonly userServices?: UserServices
  /** Where the agent itself listens: no service is there. @default nowhere */
  readonly own?: readonly OwnPlace[]
}

/** Files read at the same time. */
const readersAtOnce = 16

/** See the header. */
export class ManifestWatcher {
  readonly #parts: ManifestWatcherParts
  readonly #settings: ManifestWatcherSettings
  #userServices: UserServices
  readonly #watch: DirectoryWatch
  readonly #userWatches = new Map<string, DirectoryWatch>()
  readonly #uidOf: (user: string) => Promise<number | null>
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
    this.#userServices = settings.userServices ?? {}
    const { directory } = settings
    this.#watch = new DirectoryWatch({ onHint: () => this.#wake.abort() }, { directory })
    const users = new LocalUsers(parts)
    this.#uidOf = parts.uidOf ?? ((user) => users.uidOf(user))
  }

  /** What is in force, by path. Frozen; another array after every change. */
  get manifests(): readonly Manifest[] {
    return this.#manifests
  }

  /** The verdict on every file, by path. Frozen; another array after every change. */
  get verdicts(): readonly Verdict[] {
    return this.#verdicts
  }

  /** Why the directory, or one of a user in it, cannot be read; empty while all can. */
  get directoryProblem(): string {
    return this.#directoryProblem
  }

  /** Calls back after every change of verdicts; answers how to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Says anew which services local users may register; every file is judged again. */
  setUserServices(userServices: UserServices): void {
    this.#userServices = userServices
    if (this.#running !== null) this.#judge()
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
    this.#stopWatching()
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
    for (const watch of this.#userWatches.values()) watch.renew()
    const around = await lookAround(this.#settings.directory, this.#uidOf)
    const isNew = this.#watchUsers(around)
    if (this.#stopping.signal.aborted) this.#stopWatching()
    this.#complain(around.problem)
    if (unwatched !== '') {
      const { directory } = this.#settings
      const fields = { directory, reason: unwatched }
      this.#parts.logger.debug(fields, 'directory not watched, only polled')
    }
    this.#remember(around)
    const inDoubt = await this.#lookAtAll(around)
    this.#judge()
    return inDoubt || isNew
  }

  /** Watches what users have, and nothing else; answers whether a directory has just been found. */
  #watchUsers({ places }: Places): boolean {
    const found = new Set(places.flatMap(({ user, directory }) => (user === null ? [] : directory)))
    for (const [directory, watch] of this.#userWatches) {
      if (found.delete(directory)) continue
      watch.stop()
      this.#userWatches.delete(directory)
    }
    for (const directory of found) {
      const settings = { directory, withParent: false }
      const watch = new DirectoryWatch({ onHint: () => this.#wake.abort() }, settings)
      watch.renew()
      this.#userWatches.set(directory, watch)
    }
    return found.size > 0
  }

  #stopWatching(): void {
    this.#watch.stop()
    for (const watch of this.#userWatches.values()) watch.stop()
    this.#userWatches.clear()
  }

  /** Makes a record for every file, and for those an earlier run knew that cannot be seen now. */
  #remember({ places, isBlind }: Places): void {
    const add = (path: string, user: string | null): void => {
      if (this.#records.has(path)) return
      this.#records.set(path, new FileRecord(this.#earlier.get(path) ?? null, user))
    }
    for (const { directory, user, names } of places) {
      for (const name of names) add(`${directory}/${name}`, user)
    }
    for (const [path, { manifest }] of this.#earlier) {
      if (isBlind(dirname(path))) add(path, manifest.owner ?? null)
    }
    if (!isBlind(this.#settings.directory)) this.#earlier = new Map()
  }

  #complain(problem: string): void {
    if (problem === this.#directoryProblem) return
    this.#directoryProblem = problem
    const { directory } = this.#settings
    if (problem === '') this.#parts.logger.info({ directory }, 'manifest directory is readable')
    else this.#parts.logger.warn({ directory, problem }, 'manifest directory')
  }

  async #lookAtAll({ places, isBlind }: Places): Promise<boolean> {
    const { clock } = this.#parts
    const placeOf = new Map<string, Place>()
    for (const place of places) {
      for (const name of place.names) placeOf.set(`${place.directory}/${name}`, place)
    }
    let inDoubt = false
    const waiting = this.#records.entries()
    const reader = async (): Promise<void> => {
      for (const [path, record] of waiting) {
        const place = placeOf.get(path)
        if (place === undefined && isBlind(dirname(path))) continue
        // Taken before the look: a slow one must not make fresh content seem to have come to rest.
        const [now, elapsed] = [clock.now(), clock.elapsed()]
        const look =
          place === undefined
            ? ({ kind: 'gone' } as const)
            : await lookAt(path, record.stamp, now, place)
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
      const { version, lastManifest, user } = record
      if (version === null && lastManifest === null) return []
      // While its first version is in doubt, a file stands for what an earlier run accepted of it.
      const reading = version?.reading ?? { ok: false as const, problems: [] }
      return [{ path, user, mtimeMs: version?.mtimeMs ?? 0, reading, lastGood: lastManifest }]
    })
    const { isLocal = isLocalAddress } = this.#parts
    const { own = [] } = this.#settings
    const judgements = judge(candidates, { isLocal, userServices: this.#userServices, own })
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
