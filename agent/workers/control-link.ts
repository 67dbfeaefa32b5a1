/**
 * Owns the worker's end of the worker protocol: connects to the control process, again and again
 * with backoff, and hands on what it says. While the control process is away the worker goes on
 * with what it has.
 */

import { connect } from 'node:net'
import { Backoff } from '#shared/lifecycle/backoff.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Clock, Random } from '#agent/platform.ts'
import { LineSocket } from './line-socket.ts'
import {
  protocol,
  type CounterDump,
  type FromWorker,
  type ToWorker,
  type WorkerPhase,
} from './messages.ts'

/** How far a worker is in its life, for a control process that has not met it. */
export interface WorkerAge {
  /** Null: it was told nothing yet. */
  readonly phase: WorkerPhase | null
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number
  /** 0: it does not retire. */
  readonly retiringSinceMs: number
}

/** Settings of a control link. */
export interface ControlLinkSettings {
  readonly socketPath: string
  readonly generation: number
  readonly index: number
  readonly pid: number
  /** Of this program. */
  readonly version: string
}

/** Keeps the connection to the control process. */
export class ControlLink {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #settings: ControlLinkSettings
  readonly #backoff: Backoff
  readonly #hear: (message: ToWorker) => void
  readonly #age: () => WorkerAge
  #line: LineSocket<ToWorker, FromWorker> | null = null
  #retry: Timer | null = null
  #isAway = false
  #serving = false
  #stopped = false

  constructor(
    parts: {
      readonly clock: Clock
      readonly random: Random
      readonly logger: Logger
      /** Told of every message; called again with whole values after a reconnect. */
      readonly hear: (message: ToWorker) => void
      readonly age: () => WorkerAge
    },
    settings: ControlLinkSettings,
  ) {
    this.#clock = parts.clock
    this.#logger = parts.logger
    this.#hear = parts.hear
    this.#age = parts.age
    this.#settings = settings
    this.#backoff = new Backoff(parts, { firstMs: 50, lastMs: 2000 })
  }

  /** Starts connecting. */
  start(): void {
    const { socketPath, ...self } = this.#settings
    const socket = connect(socketPath)
    const line = new LineSocket<ToWorker, FromWorker>(socket)
    this.#line = line
    // Kept by the socket until it is connected, and said before anything else.
    const { phase, ...times } = this.#age()
    line.send({
      kind: 'hello',
      ...protocol,
      ...self,
      serving: this.#serving,
      ...times,
      ...(phase === null ? {} : { phase }),
    })
    line.handle(
      (message) => {
        if (message.kind === 'welcome') {
          this.#backoff.reset()
          this.#isAway = false
        }
        this.#hear(message)
      },
      (problem) => {
        this.#line = null
        if (this.#stopped) return
        if (!this.#isAway) this.#logger.warn({ problem }, 'control process away; going on')
        this.#isAway = true
        this.#retry = this.#clock.after(this.#backoff.nextMs(), () => this.start())
      },
    )
  }

  /** Says something to the control process; false: it is away. */
  send(message: FromWorker): boolean {
    if (message.kind === 'applied') this.#serving = true
    this.#line?.send(message)
    return this.#line !== null && !this.#isAway
  }

  /** Ends the connection and makes a new one, over which everything is told afresh. */
  connectAgain(problem: string): void {
    this.#line?.close(problem)
  }

  /** Says goodbye and ends the connection for good. */
  stop(counters: CounterDump): void {
    this.#stopped = true
    this.#retry?.stop()
    this.#line?.send({ kind: 'leaving', counters })
    this.#line?.close()
  }
}
