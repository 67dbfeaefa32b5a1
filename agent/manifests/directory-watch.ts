/**
 * Owns the hints that something changed in a directory. Hints only: the kernel's watch ends with the
 * directory it was put on, may be refused, and may miss things, so whoever listens also looks by
 * itself now and then. The parent is watched too, for a directory that is removed and made again.
 * A hint may name the file it is about; the kernel drops hints silently when there are too many.
 */

import { statSync, watch, type FSWatcher } from 'node:fs'
import { basename, dirname } from 'node:path'

interface Watched {
  readonly watcher: FSWatcher
  /** Tells the watched directory from another one made later under its name. */
  readonly inode: string
}

/** Settings of a watch. */
export interface DirectoryWatchSettings {
  readonly directory: string
  /** Whether its parent is watched too. @default true */
  readonly withParent?: boolean
}

/** See the header. */
export class DirectoryWatch {
  readonly #directory: string
  readonly #withParent: boolean
  readonly #onHint: (name: string | null) => void
  #own: Watched | null = null
  #parent: Watched | null = null
  #problem = ''

  /** `onHint` is told the name in the directory; null: it may be any, or the directory itself. */
  constructor(
    parts: { readonly onHint: (name: string | null) => void },
    settings: DirectoryWatchSettings,
  ) {
    this.#onHint = parts.onHint
    this.#directory = settings.directory
    this.#withParent = settings.withParent ?? true
  }

  /**
   * Puts the watches on the directories that are there now. Called before each look, so that nothing
   * changes unseen between the two. Answers why the directory is not watched, or an empty text.
   */
  renew(): string {
    const name = basename(this.#directory)
    if (this.#withParent) {
      this.#parent = this.#renewed(this.#parent, dirname(this.#directory), (changed) => {
        if (changed === null || changed === name) this.#onHint(null)
      })
    }
    // What happens to the directory itself comes under its own name.
    this.#own = this.#renewed(this.#own, this.#directory, (changed) =>
      this.#onHint(changed === name ? null : changed),
    )
    return this.#own === null ? this.#problem : ''
  }

  /** No more hints. */
  stop(): void {
    this.#own?.watcher.close()
    this.#parent?.watcher.close()
    this.#own = null
    this.#parent = null
  }

  #renewed(
    current: Watched | null,
    directory: string,
    onChange: (name: string | null) => void,
  ): Watched | null {
    try {
      const { dev, ino, birthtimeMs } = statSync(directory)
      const inode = `${dev}:${ino}:${birthtimeMs}`
      if (current?.inode === inode) return current
      current?.watcher.close()
      const watcher = watch(directory, { persistent: false }, (_, name) => onChange(name))
      watcher.on('error', () => this.#forget(watcher))
      return { watcher, inode }
    } catch (error) {
      current?.watcher.close()
      this.#problem = (error as NodeJS.ErrnoException).code ?? 'unknown'
      return null
    }
  }

  #forget(watcher: FSWatcher): void {
    watcher.close()
    if (this.#own?.watcher === watcher) this.#own = null
    if (this.#parent?.watcher === watcher) this.#parent = null
  }
}
