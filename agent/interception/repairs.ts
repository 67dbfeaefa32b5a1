/**
 * Owns the repair of our rules: it hears within a moment when another program deletes something, looks
 * every few seconds anyway, and has the table mended. What it is to be mended to is the table's affair.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { tableName } from './capture-state.ts'
import type { KernelCommands } from './commands.ts'
import type { KernelTable } from './kernel-table.ts'

/** What repairs lean on. */
export interface RepairsParts {
  readonly clock: Clock
  readonly logger: Logger
  readonly commands: Pick<KernelCommands, 'monitor'>
  /** Told when the table cannot be mended. */
  readonly onFailed: (error: unknown) => void
}

const checkEveryMs = 10_000
/** Elements may be told of before we know that we deleted them; a rule or a table only others delete. */
const gatherMs = { elements: 1000, others: 50 } as const

/** See the header. */
export class Repairs {
  readonly #parts: RepairsParts
  #table: KernelTable | null = null
  #monitor: { stop(): void } | null = null
  #checks: Timer | null = null
  #soon: Timer | null = null
  #stopped = false

  constructor(parts: RepairsParts) {
    this.#parts = parts
  }

  /** Begins to listen for what others do to a table, or goes on. */
  watch(table: KernelTable): void {
    if (this.#stopped) return
    const { clock, commands } = this.#parts
    this.#table = table
    this.#checks ??= clock.every(checkEveryMs, () => this.#checkAfter(0))
    this.#monitor ??= commands.monitor(
      (line) => {
        if (!line.includes(` inet ${tableName}`) || this.#table?.isEcho(line) === true) return
        this.#checkAfter(line.includes(' element ') ? gatherMs.elements : gatherMs.others)
      },
      () => {
        this.#monitor = null
        this.#checkAfter(gatherMs.elements)
      },
    )
  }

  /** Leaves the table to others until it is watched again. */
  pause(): void {
    this.#table = null
    this.#monitor?.stop()
    this.#checks?.stop()
    this.#soon?.stop()
    this.#monitor = null
    this.#checks = null
    this.#soon = null
  }

  stop(): void {
    this.#stopped = true
    this.pause()
  }

  #checkAfter(ms: number): void {
    if (this.#stopped) return
    this.#soon ??= this.#parts.clock.after(ms, () => {
      this.#soon = null
      void this.#check()
    })
  }

  async #check(): Promise<void> {
    const table = this.#table
    if (table === null || this.#stopped) return
    try {
      const problem = await table.check()
      if (problem !== '') this.#parts.logger.warn({ problem }, 'capture rules repaired')
      if (this.#table !== null) this.watch(this.#table)
    } catch (error) {
      this.#parts.onFailed(error)
    }
  }
}
