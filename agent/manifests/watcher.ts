/**
 * Owns the manifests of this host: looks at the files that hints name, and every so often at all of
 * them, has them judged together, and tells what is in force. A bad file changes nothing but its own
 * verdict. It registers nothing and opens no port.
 */

import { lstat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { sleep, type Clock } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import { isManifestName } from '#shared/model/manifest-name.ts'
import { DirectoryWatch } from './directory-watch.ts'
import { FileRecord, settleMs } from './file-record.ts'
import type { GoodVersion, GoodVersions } from './good-versions.ts'
import { Hints } from './hints.ts'
import type { OwnPlace } from './own-places.ts'
import { LocalUsers } from './local-users.ts'
import { isUnchanged, lookAt } from './manifest-file.ts'
import {
  hasRoom,
  lookAround,
  noFault,
  stillStands,
  type DirectoryFault,
  type Place,
  type Places,
} from './places.ts'
import type { Verdict } from './receipt.ts'
import type { UserServices } from './user-rules.ts'
import { Verdicts } from './verdicts.ts'

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
  /** From one look at all files to the next. @default 2000 */
  readonly rescanMs?: number
  /** Changes within this long of each other are looked at together. @default 20 */
  readonly gatherMs?: number
  /** Globs of services by local user, beside the one of his own name. @default none */
  readonly userServices?: UserServices
  /** Where the agent itself listens: no service is there. @default nowhere */
  readonly own?: readonly OwnPlace[]
  /** Where local ports are opened. @default '127.0.0.1' */
  readonly explicitAddress?: string
}

/** A file and where it stands; null: it has gone. */
type ToLookAt = readonly [path: string, place: Place | null]
type Sweep = Generator<ToLookAt, void>

/**
 * Steps with changes may take a third of the time, others half: however fast the directory changes, nobody
 * else goes short. What happens within a moment is looked at without a rest.
 */
const share = { changed: 3, unchanged: 2 } as const
const momentMs = 2000

/** Files read at the same time. */
const readersAtOnce = 16
/** Files looked at in one step of a sweep: a hint that comes meanwhile waits for no more. */
const sweptAtOnce = 128

/** See the header. */
export class ManifestWatcher {
  readonly #parts: ManifestWatcherParts
  readonly #settings: ManifestWatcherSettings
  #userServices: UserServices
  readonly #watch: DirectoryWatch
  readonly #userWatches = new Map<string, DirectoryWatch>()
  readonly #uidOf: (user: string) => Promise<number | null>
  readonly #verdicts: Verdicts
  readonly #records = new Map<string, FileRecord>()
  readonly #listeners = new Set<() => void>()
  readonly #hints = new Hints()
  /** Files whose last look left it open what they are. */
  readonly #inDoubt = new Set<string>()
  /** Files that have changed since they were judged. */
  #unjudged = new Set<string>()
  /** By directory, as they were looked around last. */
  #places: ReadonlyMap<string, Place> = new Map()
  #isBlind: Places['isBlind'] = () => true
  /** Files that have come since. */
  #newFiles = 0
  /** What is left of the sweep under way; null between two. */
  #sweep: Sweep | null = null
  #nextSweepAt = 0
  #earlier: ReadonlyMap<string, GoodVersion> = new Map()
  #directoryFault = noFault
  #stopping = new AbortController()
  #wake = new AbortController()
  #running: Promise<void> | null = null

  constructor(parts: ManifestWatcherParts, settings: ManifestWatcherSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#userServices = settings.userServices ?? {}
    const { directory, own = [], explicitAddress = '127.0.0.1' } = settings
    this.#verdicts = new Verdicts(parts, { own, explicitAddress })
    this.#watch = new DirectoryWatch(
      { onHint: (name) => this.#hint(directory, name) },
      { directory },
    )
    const users = new LocalUsers(parts)
    this.#uidOf = parts.uidOf ?? ((user) => users.uidOf(user))
  }

  /** What is in force, by path. Frozen; another array after every change. */
  get manifests(): readonly Manifest[] {
    return this.#verdicts.manifests
  }

  /** The verdict on every file, by path. Frozen; another array after every change. */
  get verdicts(): readonly Verdict[] {
    return this.#verdicts.all
  }

  /** Why the directory, or one of a user in it, cannot be read. */
  get directoryFault(): DirectoryFault {
    return this.#directoryFault
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
    await this.#beginSweep()
    while (this.#sweep !== null) await this.#sweepOn(this.#sweep)
    this.#judge()
    this.#running = this.#run()
  }

  /** Stops looking. What is in force stays so. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#wake.abort()
    this.#stopWatching()
    await this.#running
    this.#running = null
  }

  /** Without a name nobody knows what changed. */
  #hint(directory: string, name: string | null): void {
    this.#hints.add(name === null ? null : `${directory}/${name}`)
    this.#wake.abort()
  }

  async #run(): Promise<void> {
    const { clock } = this.#parts
    const { gatherMs = 20 } = this.#settings
    /** Until then steps have used up their part of the time. */
    let usedUpTo = 0
    while (!this.#stopping.signal.aborted) {
      if (this.#hints.isEmpty) await sleep(clock, this.#idleMs(), this.#wake.signal)
      const restMs = usedUpTo - momentMs - clock.elapsed()
      const waitMs = this.#hints.isEmpty ? restMs : Math.max(gatherMs, restMs)
      if (waitMs > 0) await sleep(clock, waitMs, this.#stopping.signal)
      if (this.#stopping.signal.aborted) return
      const startedAt = clock.elapsed()
      const wasHinted = await this.#step()
      const tookMs = clock.elapsed() - startedAt
      const times = wasHinted ? share.changed : share.unchanged
      usedUpTo = Math.max(usedUpTo, startedAt) + times * tookMs
    }
  }

  /** How long there is nothing to do unless a hint comes. */
  #idleMs(): number {
    if (this.#sweep !== null) return 0
    const untilSweep = Math.max(0, this.#nextSweepAt - this.#parts.clock.elapsed())
    return this.#inDoubt.size === 0 ? untilSweep : Math.min(untilSweep, settleMs / 2)
  }

  /**
   * Looks at what hints name, at what is in doubt, and at a piece of all the rest when it is time.
   * Answers whether there were hints.
   */
  async #step(): Promise<boolean> {
    if (this.#wake.signal.aborted) this.#wake = new AbortController()
    const { all, paths } = this.#hints.take()
    await this.#lookAtNamed(paths)
    if (all) this.#nextSweepAt = 0
    // One under way may have been where something has changed since: another follows it.
    if (this.#sweep === null && this.#nextSweepAt <= this.#parts.clock.elapsed()) {
      await this.#beginSweep()
    }
    const isSwept = this.#sweep !== null && (await this.#sweepOn(this.#sweep))
    // Now and then, and where no file has changed: an address may have come to this host.
    if (isSwept && this.#verdicts.isOutdated()) this.#judge()
    else if (this.#unjudged.size > 0) this.#judge(this.#unjudged)
    return all || paths.size > 0
  }

  /** Looks around for what there is to look at. */
  async #beginSweep(): Promise<void> {
    const { directory, rescanMs = 2000 } = this.#settings
    this.#nextSweepAt = this.#parts.clock.elapsed() + rescanMs
    const unwatched = this.#watch.renew()
    for (const watch of this.#userWatches.values()) watch.renew()
    let around = await lookAround(directory, this.#uidOf)
    // What changed before the watch began comes with no hint.
    if (this.#watchUsers(around)) around = await lookAround(directory, this.#uidOf)
    if (this.#stopping.signal.aborted) this.#stopWatching()
    this.#complain(around.fault)
    if (unwatched !== '') {
      const fields = { directory, reason: unwatched }
      this.#parts.logger.debug(fields, 'directory not watched, only polled')
    }
    this.#remember(around)
    this.#places = new Map(around.places.map((place) => [place.directory, place]))
    this.#isBlind = around.isBlind
    this.#newFiles = 0
    this.#sweep = this.#everything(around)
  }

  /** All that can be looked at: files of which nothing can be known now stay what they are. */
  *#everything({ places, isBlind }: Places): Sweep {
    const there = new Set<string>()
    // What comes while the sweep lasts is found by its hint.
    const known = [...this.#records.keys()]
    for (const place of places) {
      for (const name of place.names) {
        const path = `${place.directory}/${name}`
        there.add(path)
        yield [path, place]
      }
    }
    for (const path of known) {
      if (!there.has(path) && !isBlind(dirname(path))) yield [path, null]
    }
  }

  /** The next piece of a sweep; answers whether it was the last. */
  async #sweepOn(sweep: Sweep): Promise<boolean> {
    const now = this.#parts.clock.now()
    const different: ToLookAt[] = []
    for (let looked = 0; looked < sweptAtOnce; looked += 1) {
      const next = sweep.next()
      if (next.done === true) {
        this.#sweep = null
        break
      }
      const [path, place] = next.value
      const stamp = this.#records.get(path)?.stamp ?? ''
      if (place === null || !isUnchanged(path, stamp, now)) different.push(next.value)
    }
    await this.#lookAtAll(different)
    return this.#sweep === null
  }

  /** Looks at what hints name and what is in doubt. */
  async #lookAtNamed(hinted: ReadonlySet<string>): Promise<void> {
    const files: ToLookAt[] = []
    const standing = new Map<string, Promise<boolean>>()
    for (const path of new Set([...hinted, ...this.#inDoubt])) {
      const place = this.#places.get(dirname(path))
      const isKnown = this.#records.has(path)
      if (place === undefined) {
        if (isKnown && !this.#isBlind(dirname(path))) files.push([path, null])
        else this.#inDoubt.delete(path)
      } else if (!isManifestName(basename(path))) {
        if (place.user === null && (await this.#isOfUser(path))) this.#nextSweepAt = 0
      } else if (!isKnown && !hasRoom(place, this.#newFiles + 1)) {
        this.#nextSweepAt = 0
      } else {
        let stands = standing.get(place.directory)
        if (stands === undefined) standing.set(place.directory, (stands = stillStands(place)))
        if (!(await stands)) this.#nextSweepAt = 0
        else {
          if (!isKnown) this.#newFiles += 1
          files.push([path, place])
        }
      }
    }
    await this.#lookAtAll(files)
  }

  /** Whether a name in the directory is, or was, the directory of a user. */
  async #isOfUser(path: string): Promise<boolean> {
    if (this.#userWatches.has(path)) return true
    if (basename(path).startsWith('.')) return false
    const stats = await lstat(path).catch(() => null)
    return stats?.isDirectory() === true
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
      const onHint = (name: string | null): void => this.#hint(directory, name)
      const watch = new DirectoryWatch({ onHint }, settings)
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
    for (const { directory, user, names } of places) {
      for (const name of names) this.#recordOf(`${directory}/${name}`, user)
    }
    for (const [path, { manifest }] of this.#earlier) {
      if (isBlind(dirname(path))) this.#recordOf(path, manifest.owner ?? null)
    }
    if (!isBlind(this.#settings.directory)) this.#earlier = new Map()
  }

  #recordOf(path: string, user: string | null): FileRecord {
    const known = this.#records.get(path)
    if (known !== undefined) return known
    const record = new FileRecord(this.#earlier.get(path) ?? null, user)
    this.#records.set(path, record)
    return record
  }

  #complain(fault: DirectoryFault): void {
    const { problem } = fault
    if (problem === this.#directoryFault.problem) return
    this.#directoryFault = fault
    const { directory } = this.#settings
    if (problem === '') this.#parts.logger.info({ directory }, 'manifest directory is readable')
    else this.#parts.logger.warn({ directory, problem }, 'manifest directory')
  }

  /** Looks at files, those of no place being gone. */
  async #lookAtAll(files: readonly ToLookAt[]): Promise<void> {
    const { clock } = this.#parts
    const waiting = files.values()
    const reader = async (): Promise<void> => {
      for (const [path, place] of waiting) {
        const record = this.#recordOf(path, place?.user ?? null)
        // Taken before the look: a slow one must not make fresh content seem to have come to rest.
        const [now, elapsed] = [clock.now(), clock.elapsed()]
        const look =
          place === null
            ? ({ kind: 'gone' } as const)
            : await lookAt(path, record.stamp, now, place)
        const before = record.version
        const answer = record.see(look, now, elapsed)
        if (answer === 'again') this.#inDoubt.add(path)
        else this.#inDoubt.delete(path)
        if (answer === 'forget') this.#records.delete(path)
        if (answer === 'forget' || record.version !== before) this.#unjudged.add(path)
      }
    }
    await Promise.all(Array.from({ length: Math.min(readersAtOnce, files.length) }, reader))
  }

  /** Judges files that have changed; null: all. */
  #judge(changed: ReadonlySet<string> | null = null): void {
    this.#unjudged = new Set()
    if (!this.#verdicts.judge(this.#records, this.#userServices, changed)) return
    for (const listener of this.#listeners) listener()
  }
}
