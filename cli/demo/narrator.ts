/** Owns how the demo talks: one line per thing, and a sign of life while anything takes its time. */

import type { Clock } from '#shared/lifecycle/clock.ts'

/** Where the words go. */
export interface Paper {
  write(text: string): void
  /** Whether a line may be written over: a terminal. */
  readonly live: boolean
}

const everyMs = 1000
/** Off a terminal a sign of life is a line of its own, so fewer of them. */
const linesEvery = 5

/** Tells the story. */
export class Narrator {
  readonly #paper: Paper
  readonly #clock: Clock

  constructor(parts: { readonly paper: Paper; readonly clock: Clock }) {
    this.#paper = parts.paper
    this.#clock = parts.clock
  }

  /** Plain words. */
  say(line: string): void {
    this.#paper.write(`${line}\n`)
  }

  /** The head of a chapter. */
  chapter(title: string): void {
    this.#paper.write(`\n== ${title}\n`)
  }

  /** Does something, with its title before, signs of life meanwhile and the time it took behind. */
  async step<T>(title: string, run: () => Promise<T>): Promise<T> {
    const began = this.#clock.elapsed()
    const seconds = (): number => (this.#clock.elapsed() - began) / 1000
    let ticks = 0
    const timer = this.#clock.every(everyMs, () => {
      ticks++
      if (this.#paper.live) this.#paper.write(`\r   … ${title} ${Math.round(seconds())} s`)
      else if (ticks % linesEvery === 0) this.say(`   … ${title} ${Math.round(seconds())} s`)
    })
    try {
      const result = await run()
      this.#clear(ticks)
      this.say(`   ${title} (${seconds().toFixed(1)} s)`)
      return result
    } catch (error) {
      this.#clear(ticks)
      throw error
    } finally {
      timer.stop()
    }
  }

  #clear(ticks: number): void {
    if (this.#paper.live && ticks > 0) this.#paper.write('\r\u001b[K')
  }
}
