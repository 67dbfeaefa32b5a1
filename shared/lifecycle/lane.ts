/**
 * Owns work that must not overlap: what is given to a lane runs in the order it was given, one after
 * the other, whatever became of what ran before. It never gives up and is never full: callers wait.
 */

/** See the header. */
export class Lane {
  #last: Promise<unknown> = Promise.resolve()

  /** Runs `work` once everything given before has ended; answers what it answers. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work)
    this.#last = done.catch(() => {})
    return done
  }

  /** Resolves when everything given so far has ended. */
  async idle(): Promise<void> {
    await this.#last
  }
}
