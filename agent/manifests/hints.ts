/**
 * Owns which files are said to have changed and have not been looked at since. What cannot be named, and
 * more names than are worth keeping, mean all of them. Pure.
 */

/** More names than this are not kept: looking at everything costs no more. */
const mostNamed = 512

/** What is to be looked at. */
export interface Hinted {
  readonly all: boolean
  readonly paths: ReadonlySet<string>
}

/** See the header. */
export class Hints {
  #paths = new Set<string>()
  #all = false

  /** Whether there is anything to look at. */
  get isEmpty(): boolean {
    return !this.#all && this.#paths.size === 0
  }

  /** Something happened to a path; null: nobody knows to which. */
  add(path: string | null): void {
    if (this.#all) return
    if (path !== null && (this.#paths.has(path) || this.#paths.size < mostNamed)) {
      this.#paths.add(path)
      return
    }
    this.#all = true
    this.#paths = new Set()
  }

  /** What has been hinted at since it was last asked. */
  take(): Hinted {
    const hinted = { all: this.#all, paths: this.#paths }
    this.#all = false
    this.#paths = new Set()
    return hinted
  }
}
