/**
 * Owns the policy files of this host: looks at their directory when something changes and every so
 * often, and tells what is in force. Of a file that is bad the last good version stays, also over a
 * restart, and no other file is affected. Who may write there says who may call: a directory or file
 * that others can write to is not believed.
 */

import { lstat, readdir, readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { ownUser } from '#shared/lifecycle/own-user.ts'
import { DirectoryMirror, type DirectoryMirrorParts } from '#agent/manifests/directory-mirror.ts'
import { DirectoryWatch } from '#agent/manifests/directory-watch.ts'
import { lookAtFile } from '#agent/manifests/manifest-file.ts'
import { isManifestName } from '#shared/model/manifest-name.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import type { Policy } from '#shared/model/policy.ts'
import { readPolicy } from '#shared/schema/policy.ts'
import { renderProblem, type Problem } from '#shared/schema/problem.ts'

/** What became of a file. */
export interface PolicyVerdict {
  readonly path: string
  readonly verdict: 'accepted' | 'rejected'
  readonly problems: readonly Problem[]
  /** What is in force of it: this version, the last good one, or nothing. */
  readonly policy: Policy | null
}

/** Settings of policy files. */
export interface PolicyFilesSettings {
  readonly directory: string
  /** Where the last good versions are kept. */
  readonly stateDirectory: string
  /** From one unprompted look to the next. @default 2000 */
  readonly rescanMs?: number
  /** How long a bad or missing file must stay so before it is believed. @default 500 */
  readonly settleMs?: number
}

interface Known {
  /** Tells an unchanged file without reading it. */
  stamp: string
  hash: string
  verdict: PolicyVerdict | null
  good: { readonly policy: Policy; readonly text: string } | null
  /** A change for the worse that may be half of one; null while there is none. */
  doubt: { readonly hash: string; readonly since: number } | null
}

/** More files than this are not looked at, the last ones by name. */
const mostFiles = 1000
const gatherMs = 20

/** See the header. */
export class PolicyFiles {
  readonly #parts: DirectoryMirrorParts
  readonly #settings: PolicyFilesSettings
  readonly #watch: DirectoryWatch
  readonly #mirror: DirectoryMirror
  readonly #known = new Map<string, Known>()
  readonly #owners = new Set([0, ownUser()])
  readonly #listeners = new Set<() => void>()
  #verdicts: readonly PolicyVerdict[] = []
  #problem = ''
  #stopping = new AbortController()
  #wake = new AbortController()
  #running: Promise<void> | null = null

  constructor(parts: DirectoryMirrorParts, settings: PolicyFilesSettings) {
    const { directory, stateDirectory } = settings
    this.#parts = parts
    this.#settings = settings
    this.#watch = new DirectoryWatch({ onHint: () => this.#wake.abort() }, { directory })
    this.#mirror = new DirectoryMirror(parts, {
      directory: `${stateDirectory}/policies`,
      mode: 0o600,
      durable: true,
    })
  }

  /** The verdict on every file, by path; another array after every change. */
  get verdicts(): readonly PolicyVerdict[] {
    return this.#verdicts
  }

  /** What is in force, by path. */
  get policies(): readonly Policy[] {
    return this.#verdicts.flatMap(({ policy }) => policy ?? [])
  }

  /** Why the directory is not read; empty while it is, and where there is none. */
  get directoryProblem(): string {
    return this.#problem
  }

  /** Calls back after every change of verdicts. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /** Begins; resolves when what stands there, or was last known, is in force. */
  async start(): Promise<void> {
    await this.#recall()
    const inDoubt = await this.#scan()
    this.#running = this.#run(inDoubt)
  }

  /** Stops looking. What is in force stays so. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#wake.abort()
    await this.#running
    this.#watch.stop()
    await this.#mirror.stop()
  }

  async #run(inDoubtAtFirst: boolean): Promise<void> {
    const { clock } = this.#parts
    const { rescanMs = 2000 } = this.#settings
    let inDoubt = inDoubtAtFirst
    while (!this.#stopping.signal.aborted) {
      await sleep(clock, inDoubt ? this.#settleMs / 2 : rescanMs, this.#wake.signal)
      if (this.#wake.signal.aborted) await sleep(clock, gatherMs, this.#stopping.signal)
      if (this.#stopping.signal.aborted) return
      inDoubt = await this.#scan()
    }
  }

  get #settleMs(): number {
    return this.#settings.settleMs ?? 500
  }

  /** What an earlier run kept counts until the files have been looked at. */
  async #recall(): Promise<void> {
    const { directory, stateDirectory } = this.#settings
    const kept = `${stateDirectory}/policies`
    const names = (await readdir(kept).catch((): string[] => [])).filter(isManifestName)
    for (const name of names) {
      const path = `${directory}/${name}`
      const bytes = await readFile(`${kept}/${name}`).catch(() => null)
      const reading = bytes === null ? null : readPolicy(path, bytes)
      if (bytes === null || reading?.ok !== true) continue
      const good = { policy: reading.policy, text: bytes.toString('utf8') }
      this.#known.set(path, { stamp: '', hash: '', verdict: null, good, doubt: null })
    }
  }

  /** Looks at everything; answers whether something is in doubt and wants another look soon. */
  async #scan(): Promise<boolean> {
    this.#wake = new AbortController()
    this.#watch.renew()
    const names = await this.#list()
    if (names !== null) {
      const paths = new Set(names.map((name) => `${this.#settings.directory}/${name}`))
      for (const path of paths) {
        if (!this.#known.has(path)) {
          const nothing = { stamp: '', hash: '', verdict: null, good: null, doubt: null }
          this.#known.set(path, nothing)
        }
      }
      for (const [path, known] of this.#known) await this.#look(path, known, paths.has(path))
    }
    this.#tell()
    return [...this.#known.values()].some(({ doubt }) => doubt !== null)
  }

  /** The names of the files; null where they cannot be known, or believed. */
  async #list(): Promise<readonly string[] | null> {
    const { directory } = this.#settings
    try {
      const { uid, mode } = await lstat(directory)
      if (!this.#owners.has(uid) || (mode & 0o022) !== 0) {
        this.#complain('not read: only root or the agent may own it and write to it (chown, chmod)')
        return null
      }
      const names = (await readdir(directory)).filter(isManifestName).sort()
      const extra = names.length - mostFiles
      this.#complain(extra > 0 ? `${extra} files more than ${mostFiles}; they are left out` : '')
      return names.slice(0, mostFiles)
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
      this.#complain(code === 'ENOENT' ? '' : `cannot be read (${code})`)
      return code === 'ENOENT' ? [] : null
    }
  }

  async #look(path: string, known: Known, isListed: boolean): Promise<void> {
    const { clock } = this.#parts
    const [now, elapsed] = [clock.now(), clock.elapsed()]
    const stamp = known.doubt === null ? known.stamp : ''
    const rules = { owners: this.#owners, user: null }
    const look = isListed
      ? await lookAtFile(path, stamp, now, { ...rules, read: (bytes) => readPolicy(path, bytes) })
      : ({ kind: 'gone' } as const)
    if (look.kind === 'unchanged') return
    if (look.kind === 'gone') {
      if (this.#isSure(known, 'gone', elapsed)) this.#known.delete(path)
      return
    }
    const { hash, reading, text } = look.version
    if (!reading.ok && hash !== known.hash && !this.#isSure(known, hash, elapsed)) return
    known.doubt = null
    known.stamp = look.version.stamp
    if (hash === known.hash && known.verdict !== null) return
    known.hash = hash
    if (reading.ok) {
      known.good = { policy: reading.policy, text }
      known.verdict = { path, verdict: 'accepted', problems: [], policy: reading.policy }
    } else {
      const policy = known.good?.policy ?? null
      known.verdict = { path, verdict: 'rejected', problems: reading.problems, policy }
    }
    this.#log(known.verdict)
  }

  /** Whether a change for the worse has lasted; an editor may be half-way through another. */
  #isSure(known: Known, hash: string, elapsed: number): boolean {
    if (known.doubt?.hash !== hash) known.doubt = { hash, since: elapsed }
    return elapsed - known.doubt.since >= this.#settleMs
  }

  #tell(): void {
    const verdicts = [...this.#known]
      .map(([path, { verdict, good }]): PolicyVerdict | null => {
        if (verdict !== null) return verdict
        const policy = good?.policy ?? null
        return policy === null ? null : { path, verdict: 'rejected', problems: [], policy }
      })
      .filter((verdict) => verdict !== null)
      .toSorted((a, b) => (a.path < b.path ? -1 : 1))
    const before = this.#verdicts
    const isSame =
      before.length === verdicts.length &&
      verdicts.every(
        (one, i) =>
          one.path === before[i]?.path &&
          one.policy === before[i].policy &&
          one.problems === before[i].problems,
      )
    if (isSame) return
    for (const { path } of before) {
      if (!this.#known.has(path)) this.#parts.logger.warn({ file: path }, 'policy removed')
    }
    this.#verdicts = verdicts
    const good = [...this.#known].flatMap(([path, known]) =>
      known.good === null ? [] : [[basename(path), known.good.text] as const],
    )
    this.#mirror.show(new Map(good))
    for (const listener of this.#listeners) listener()
  }

  #log({ path, verdict, policy, problems }: PolicyVerdict): void {
    const { logger } = this.#parts
    if (verdict === 'accepted') logger.info({ file: path }, 'policy accepted')
    else {
      const inForce = policy === null ? 'nothing' : 'its last good version'
      const lines = problems.map(renderProblem)
      logger.error({ file: path, inForce, problems: lines }, 'policy rejected')
    }
  }

  #complain(problem: string): void {
    if (problem === this.#problem) return
    this.#problem = problem
    const { directory } = this.#settings
    if (problem === '') this.#parts.logger.info({ directory }, 'policy directory is in order')
    else this.#parts.logger.error({ directory, problem }, 'policy directory')
  }
}
