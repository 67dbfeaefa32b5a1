/**
 * Owns a directory that shows a map: one file per entry, in it or in a directory in it, each replaced
 * whole, those of no entry removed. Changes are carried out in the background, one at a time; a failure is logged once and
 * tried again with growing waits.
 */

import { chmod, mkdir, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import { Backoff } from '#shared/lifecycle/backoff.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Clock, Random, Timer } from '#shared/lifecycle/clock.ts'

/** Collaborators of a mirror. */
export interface DirectoryMirrorParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

/** Settings of a mirror. */
export interface DirectoryMirrorSettings {
  readonly directory: string
  /** Permissions of the files. */
  readonly mode: number
  /** Whether a file must outlive a loss of power. */
  readonly durable: boolean
}

/** See the header. */
export class DirectoryMirror {
  readonly #parts: DirectoryMirrorParts
  readonly #settings: DirectoryMirrorSettings
  readonly #backoff: Backoff
  /** What is on the disk, as far as known; null: not looked yet. */
  #written: Map<string, string | null> | null = null
  #wanted: ReadonlyMap<string, string> = new Map()
  /** The map that was last compared with the disk. */
  #done: ReadonlyMap<string, string> | null = null
  #running: Promise<void> | null = null
  #retry: Timer | null = null
  #complaint = ''

  constructor(parts: DirectoryMirrorParts, settings: DirectoryMirrorSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#backoff = new Backoff({ random: parts.random }, { firstMs: 500, lastMs: 60_000 })
  }

  /** Shows this map from now on. Keys are file names, `name` or `below/name`. */
  show(wanted: ReadonlyMap<string, string>): void {
    this.#wanted = wanted
    this.#begin()
  }

  /** Resolves when the directory shows the map, or the last try to do so has failed. */
  async settled(): Promise<void> {
    while (this.#running !== null) await this.#running
  }

  /** Ends what is under way; the files stay. */
  async stop(): Promise<void> {
    await this.settled()
    this.#retry?.stop()
  }

  #begin(): void {
    this.#retry?.stop()
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    const failure = await this.#work()
    this.#running = null
    if (failure === null) {
      this.#backoff.reset()
      this.#complaint = ''
      // Something may have been shown after the last look and before this line.
      if (this.#wanted !== this.#done) this.#begin()
      return
    }
    this.#written = null
    const problem = messageOf(failure)
    if (problem !== this.#complaint) {
      this.#complaint = problem
      const { directory } = this.#settings
      this.#parts.logger.error({ directory, problem }, 'cannot keep a directory up to date')
    }
    this.#retry = this.#parts.clock.after(this.#backoff.nextMs(), () => this.#begin())
  }

  /** Works until nothing differs; answers the first thing that went wrong, the rest being done. */
  async #work(): Promise<unknown> {
    let failure: unknown = null
    try {
      const written = (this.#written ??= await this.#look())
      for (;;) {
        const wanted = this.#wanted
        const names = differing(written, wanted)
        this.#done = wanted
        for (const name of names) {
          const problem = await this.#align(name, written)
          failure ??= problem
        }
        if (names.length === 0 || failure !== null) return failure
      }
    } catch (error) {
      return error
    }
  }

  async #look(): Promise<Map<string, string | null>> {
    const { directory, durable } = this.#settings
    await makeDirectory(directory, directoryMode(durable))
    const names = await ownFiles(directory, '')
    const entries = await readdir(directory, { withFileTypes: true })
    for (const entry of entries.filter((one) => one.isDirectory())) {
      names.push(...(await ownFiles(`${directory}/${entry.name}`, `${entry.name}/`)))
    }
    return new Map(names.map((name) => [name, null]))
  }

  /** Makes one file what is wanted now; answers what went wrong, or null. */
  async #align(name: string, written: Map<string, string | null>): Promise<unknown> {
    const content = this.#wanted.get(name)
    const path = `${this.#settings.directory}/${name}`
    try {
      if (content === undefined) {
        await rm(path, { force: true })
        written.delete(name)
        // A directory goes with its last file; one that holds something foreign stays.
        if (name.includes('/')) await rmdir(dirname(path)).catch(() => {})
      } else {
        await this.#write(path, content)
        written.set(name, content)
      }
      return null
    } catch (error) {
      return error
    }
  }

  async #write(path: string, content: string): Promise<void> {
    const { directory, mode, durable } = this.#settings
    const below = dirname(path)
    if (below !== directory) await makeDirectory(below, directoryMode(durable))
    if (durable) return writeFileAtomic(path, content, { mode })
    const temporary = `${directory}/.next.tmp`
    await writeFile(temporary, content, { mode })
    // Receipts are for everybody, whatever the agent's mask.
    await chmod(temporary, mode)
    await rename(temporary, path)
  }
}

/** Makes a directory with these permissions, whatever the agent's mask. */
async function makeDirectory(path: string, mode: number): Promise<void> {
  const made = await mkdir(path, { recursive: true, mode })
  if (made !== undefined) await chmod(path, mode)
}

async function ownFiles(directory: string, prefix: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory() && /\.(?:json|tmp)$/.test(entry.name))
    .map(({ name }) => `${prefix}${name}`)
}

function directoryMode(durable: boolean): number {
  return durable ? 0o700 : 0o755
}

function differing(
  written: ReadonlyMap<string, string | null>,
  wanted: ReadonlyMap<string, string>,
): readonly string[] {
  // There may be a thousand, of which one has changed.
  const names: string[] = []
  for (const [name, content] of wanted) if (written.get(name) !== content) names.push(name)
  for (const name of written.keys()) if (!wanted.has(name)) names.push(name)
  return names
}
