/** Owns long-lived connections of a soak, a batch at a time. The connections are `stream-program.ts`'s. */

import { join } from 'node:path'
import type { Child } from '#cli/demo/child.ts'
import type { DemoHost } from '#cli/demo/demo-host.ts'

/** What a batch tells. */
export interface StreamLine {
  /** Streams that are open and have always heard what they said. */
  readonly whole: number
  readonly cut: number
  /** What they heard again, all together. */
  readonly echoed: number
}

const program = join(import.meta.dirname, 'stream-program.ts')

/** Some connections of one host, open until they are closed here. */
export class Streams {
  readonly count: number
  readonly #child: Child
  #line: StreamLine = { whole: 0, cut: 0, echoed: 0 }

  constructor(
    parts: { readonly host: DemoHost; readonly node: string },
    settings: { readonly port: number; readonly count: number },
  ) {
    const { host, node } = parts
    const { port, count } = settings
    this.count = count
    const words = [node, program, host.place.local, String(port), String(count)] as const
    this.#child = host.start('streams', words, (text) => {
      this.#line = JSON.parse(text) as StreamLine
    })
  }

  /** Whether every one has been answered. */
  get isOpen(): boolean {
    return this.#line.whole === this.count
  }

  /** Those that were cut, or never came to be. */
  get lost(): number {
    return this.count - this.#line.whole
  }

  /** Numbers they heard again so far. */
  get echoed(): number {
    return this.#line.echoed
  }

  /** Ends them in good order. */
  async close(): Promise<void> {
    await this.#child.stop(5000)
  }
}
