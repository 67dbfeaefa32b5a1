/**
 * Owns a program under measurement: started pinned to one core, its CPU time read from /proc with
 * that of every descendant, ended by its own id.
 */

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync, readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Place } from '#cli/demo/place.ts'

/** What to start. */
export interface ProgramSettings {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string
  /** The core it and its children are pinned to; none leaves that to the kernel. */
  readonly core: number | null
  /** Takes stdout and stderr. */
  readonly logFile: string
  readonly env?: Readonly<Record<string, string>>
  /** The host it runs on; none: as this process does. */
  readonly place?: Place
}

/** A running program. */
export class Program {
  readonly #child: ChildProcess
  readonly #logFile: string

  constructor(settings: ProgramSettings) {
    const pinned = settings.core === null ? [] : ['taskset', '-c', String(settings.core)]
    const words = [...pinned, settings.command, ...settings.args]
    const [command = '', ...args] = settings.place?.enter(words) ?? words
    const log = openSync(settings.logFile, 'a')
    this.#logFile = settings.logFile
    this.#child = spawn(command, args, {
      cwd: settings.cwd,
      stdio: ['ignore', log, log],
      env: { ...process.env, ...settings.env },
    })
    this.#child.on('error', () => {})
  }

  /**
   * Waits until something listens on a port where the program runs; throws with the log's end when
   * the program ends.
   */
  async listening(port: number): Promise<void> {
    for (let i = 0; i < 600; i++) {
      const { pid, exitCode } = this.#child
      if (exitCode !== null || pid === undefined) break
      if (isOpen(pid, port)) return
      await sleep(50)
    }
    const log = readFileSync(this.#logFile, 'utf8').slice(-2000)
    throw new Error(`${this.#child.spawnargs.join(' ')} does not listen on ${port}:\n${log}`)
  }

  /** The program and its descendants. */
  get pids(): readonly number[] {
    return this.#child.pid === undefined ? [] : descendants(this.#child.pid)
  }

  /** Ends it and waits for its end. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), 5000)
    await ended
    clearTimeout(kill)
  }
}

/** User and system time of processes so far, seconds. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0
  for (const pid of pids) {
    const fields = statOf(pid)
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0)
  }
  return ticks / 100
}

/** Proportional set size of processes, MiB. */
export function memoryMiB(pids: readonly number[]): number {
  let kib = 0
  for (const pid of pids) {
    const match = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))
    kib += Number(match?.[1] ?? 0)
  }
  return kib / 1024
}

/** A process's command line; empty when it is gone. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}

/** Fields of /proc/<pid>/stat from the state on; empty when the process is gone. */
function statOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
  } catch {
    return []
  }
}

/** A process and everything below it. */
export function descendants(root: number): number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid)) continue
    const parent = Number(statOf(pid)[1])
    children.set(parent, [...(children.get(parent) ?? []), pid])
  }
  const all: number[] = []
  const queue = [root]
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    all.push(pid)
    queue.push(...(children.get(pid) ?? []))
  }
  return all
}

/** Whether anybody in the network of a process listens on a port of an IPv4 address. */
function isOpen(pid: number, port: number): boolean {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  try {
    return readFileSync(`/proc/${pid}/net/tcp`, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .some(([, address = '', , state]) => address.endsWith(local) && state === '0A')
  } catch {
    return false
  }
}
