/**
 * Owns one program of the demo: started in its place with its output in a file, ended by its pid,
 * and gone when the demo is, however that ends.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Machine } from './machine.ts'
import type { Place } from './place.ts'

/** Settings of a program. */
export interface ChildSettings {
  readonly name: string
  readonly command: readonly [string, ...string[]]
  readonly logFile: string
  /** Gets each line of standard output, which then does not go to the file. */
  readonly onLine?: (line: string) => void
}

/** How a program ended. */
export interface Ending {
  readonly code: number | null
  readonly signal: string | null
}

/** Lets the kernel end a program with the demo, even when that is killed. */
const bound = existsSync('/usr/bin/setpriv') ? ['/usr/bin/setpriv', '--pdeathsig', 'TERM'] : []

/** A running program. */
export class Child {
  readonly name: string
  readonly ended: Promise<Ending>
  readonly #settings: ChildSettings
  readonly #machine: Machine
  readonly #process: ChildProcess
  #ending: Ending | null = null

  constructor(
    parts: { readonly place: Place; readonly machine: Machine },
    settings: ChildSettings,
  ) {
    this.name = settings.name
    this.#machine = parts.machine
    this.#settings = settings
    const [command = '', ...words] = parts.place.enter([...bound, ...settings.command])
    const log = openSync(settings.logFile, 'a', 0o600)
    this.#process = spawn(command, words, {
      detached: true,
      env: { ...parts.machine.environment },
      stdio: ['ignore', settings.onLine === undefined ? log : 'pipe', log],
    })
    closeSync(log)
    const { stdout } = this.#process
    if (stdout !== null && settings.onLine !== undefined)
      createInterface({ input: stdout }).on('line', settings.onLine)
    this.ended = new Promise((resolve) => {
      const finish = (ending: Ending): void => {
        this.#ending ??= ending
        resolve(this.#ending)
      }
      this.#process.once('error', (error) => finish({ code: null, signal: error.message }))
      this.#process.once('close', (code, signal) => finish({ code, signal }))
    })
  }

  /** How it ended; null while it runs. */
  get ending(): Ending | null {
    return this.#ending
  }

  /** The process's id; undefined where it could not be started. */
  get pid(): number | undefined {
    return this.#process.pid
  }

  /** Sends a signal to the program itself. */
  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  /** Ends it and everything it started, at once. */
  kill(): void {
    const { pid } = this.#process
    if (pid !== undefined) this.#machine.killGroup(pid)
  }

  /** Asks it to end, and ends it when it takes longer than `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    if (this.#ending !== null) return
    this.signal('SIGTERM')
    const timer = setTimeout(() => this.kill(), graceMs)
    await this.ended
    clearTimeout(timer)
    this.kill()
  }

  /** The last lines of its output file. */
  tail(lines = 12): string {
    try {
      return readFileSync(this.#settings.logFile, 'utf8')
        .trimEnd()
        .split('\n')
        .slice(-lines)
        .join('\n')
    } catch {
      return ''
    }
  }
}
