/**
 * Owns the hints that a unit has started or ended: a change in the directory in which its control
 * group lies. Hints only; whoever listens also looks by itself now and then.
 */

import { watch, type FSWatcher } from 'node:fs'

/** See the header. */
export class UnitWatch {
  readonly #onHint: () => void
  readonly #names: () => ReadonlySet<string>
  readonly #watchers = new Map<string, FSWatcher>()

  /** @param names - of the units that matter */
  constructor(parts: { readonly onHint: () => void; readonly names: () => ReadonlySet<string> }) {
    this.#onHint = parts.onHint
    this.#names = parts.names
  }

  /** Watches a directory, too. What cannot be watched is left to the looks. */
  add(directory: string): void {
    if (this.#watchers.has(directory)) return
    try {
      const watcher = watch(directory, (_, name) => {
        if (name === null || this.#names().has(name)) this.#onHint()
      })
      const forget = (): void => void this.#watchers.delete(directory)
      watcher.on('error', forget).on('close', forget)
      this.#watchers.set(directory, watcher)
    } catch {
      // It has gone meanwhile.
    }
  }

  /** No more hints. */
  stop(): void {
    for (const watcher of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
  }
}
