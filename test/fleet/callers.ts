/** Owns the callers of a fleet: requests without end and streams that are held, on every machine. */

import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Machine } from '#test/support/machine-room.ts'
import type { LoadLine, LoadTarget } from '#test/soak/load.ts'
import { machineNode, ports } from './fleet.ts'
import type { StreamLine } from './stream-program.ts'

/** How many on each machine. */
export interface CallersSettings {
  /** That keep their connection. */
  readonly kept: number
  /** With a connection for each request. */
  readonly fresh: number
  readonly streams: number
  /** About how long each rests between requests, milliseconds. */
  readonly pauseMs: number
  /** How long an answer may take before it counts as none. */
  readonly patienceMs: number
}

interface Told {
  load: LoadLine | null
  streams: StreamLine | null
}

/** See the header. */
export class Callers {
  readonly failures: string[] = []
  readonly #told: readonly Told[]
  readonly #children: readonly ChildProcess[]

  /** Starts them. */
  constructor(machines: readonly Machine[], settings: CallersSettings) {
    const { kept, fresh, streams, pauseMs, patienceMs } = settings
    const to = { name: 'orders', host: '127.0.0.1', port: ports.upstream, pauseMs }
    const targets: readonly LoadTarget[] = [
      { ...to, clients: kept, fresh: false },
      { ...to, clients: fresh, fresh: true },
    ]
    this.#told = machines.map(() => ({ load: null, streams: null }))
    this.#children = machines.flatMap((machine, index) => {
      const told = this.#told[index] as Told
      const run = (program: string, words: readonly string[], take: (text: string) => void) => {
        const child = machine.start(machineNode, `/checkout/test/${program}`, ...words)
        if (child.stdout !== null) createInterface({ input: child.stdout }).on('line', take)
        return child
      }
      const load = run(
        'soak/load-program.ts',
        [JSON.stringify(targets), String(patienceMs)],
        (text) => {
          told.load = JSON.parse(text) as LoadLine
          const said = told.load.failures.map(({ what }) => `${machine.name}: ${what}`)
          if (this.failures.length < 20) this.failures.push(...said)
        },
      )
      const held = run(
        'fleet/stream-program.ts',
        [String(ports.upstream), String(streams)],
        (text) => (told.streams = JSON.parse(text) as StreamLine),
      )
      return [load, held]
    })
  }

  get requests(): number {
    return this.#sum(({ load }) => load?.requests ?? 0)
  }

  get failed(): number {
    return this.#sum(({ load }) => load?.failed ?? 0)
  }

  /** Streams that are open. */
  get open(): number {
    return this.#sum(({ streams }) => streams?.open ?? 0)
  }

  /** Streams that ended or left something out. */
  get cut(): number {
    return this.#sum(({ streams }) => streams?.cut ?? 0)
  }

  /** Ends them: a program nobody listens to ends by itself. */
  async stop(): Promise<void> {
    await Promise.all(
      this.#children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return
        const ended = new Promise((resolve) => child.once('exit', resolve))
        child.stdout?.destroy()
        await ended
      }),
    )
  }

  #sum(of: (told: Told) => number): number {
    return this.#told.reduce((sum, told) => sum + of(told), 0)
  }
}
