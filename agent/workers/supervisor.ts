/**
 * Owns the small supervisor used where there is no systemd (demo, container, tests): it starts the
 * control process and the workers side by side, so that neither is the other's child, and starts
 * again what ends, with backoff. Asked for a new generation it starts more workers; which of them
 * carry traffic is the control process's business. It holds no state.
 */

import { spawn, type ChildProcess } from 'node:child_process'
import { Backoff } from '#shared/lifecycle/backoff.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Clock, Random } from '#agent/platform.ts'

/** A program to keep running. */
export interface Program {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  /** How it is asked to end for good. */
  readonly stopSignal: 'SIGINT' | 'SIGTERM'
}

/** Settings of a supervisor. */
export interface SupervisorSettings {
  /** Of the programs. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /**
   * Started in this order; stopped in the same order, those of one stage together, each stage after
   * the one before has ended.
   */
  readonly stages: readonly (readonly Program[])[]
  /**
   * Exit codes that no restart can mend (bad configuration), of a run that never served, however long
   * it took to find out: everything stops, unless the program served in a run before; then what goes
   * on without it matters more, and it is started again.
   */
  readonly finalCodes: readonly number[]
  /** The exit code of a program that is done for good. */
  readonly doneCode: number
  /** Longest wait for a program to end by itself before it is killed. */
  readonly killMs: number
  /** A run of this long was a success: it resets the backoff. @default 10000 */
  readonly steadyMs?: number
}

class Post {
  readonly program: Program
  readonly backoff: Backoff
  /** Added while the others served: they go on without it. */
  readonly isLate: boolean
  child: ChildProcess | null = null
  retry: Timer | null = null
  ended: Promise<void> = Promise.resolve()
  hasServed = false
  constructor(program: Program, backoff: Backoff, isLate: boolean) {
    this.program = program
    this.backoff = backoff
    this.isLate = isLate
  }
}

/** Keeps a few programs running. */
export class Supervisor {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #settings: SupervisorSettings
  readonly #stages: Post[][]
  readonly #makeBackoff: () => Backoff
  readonly #finished = Promise.withResolvers<number>()
  #stopping = false

  constructor(
    parts: { readonly clock: Clock; readonly random: Random; readonly logger: Logger },
    settings: SupervisorSettings,
  ) {
    this.#clock = parts.clock
    this.#logger = parts.logger
    this.#settings = settings
    this.#makeBackoff = () => new Backoff(parts, { firstMs: 50, lastMs: 10_000 })
    this.#stages = settings.stages.map((programs) =>
      programs.map((program) => new Post(program, this.#makeBackoff(), false)),
    )
  }

  /** Starts everything, and says so; settles with an exit code when everything has ended. */
  run(onStarted: () => void = () => {}): Promise<number> {
    for (const post of this.#stages.flat()) this.#start(post)
    onStarted()
    return this.#finished.promise
  }

  /**
   * Starts more programs, which belong to a stage. Those of that stage that only wait to be tried
   * again are given up: somebody has thought of something better.
   */
  add(stage: number, programs: readonly Program[]): void {
    if (this.#stopping) return
    const posts = this.#stages[stage]
    if (posts === undefined) throw new RangeError(`there is no stage ${stage}`)
    for (const post of posts.filter(({ child, isLate }) => child === null && isLate)) {
      this.#drop(post)
    }
    for (const program of programs) {
      const post = new Post(program, this.#makeBackoff(), true)
      posts.push(post)
      this.#start(post)
    }
  }

  /** Has the programs of the first stage read their settings again. */
  reload(): void {
    for (const { child } of this.#stages[0] ?? []) child?.kill('SIGHUP')
  }

  /** Ends the programs, stage by stage. */
  async stop(): Promise<void> {
    await this.#stopWith(0)
  }

  async #stopWith(code: number): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    for (const { retry } of this.#stages.flat()) retry?.stop()
    for (const posts of this.#stages) await Promise.all(posts.map((post) => this.#end(post)))
    this.#finished.resolve(code)
  }

  async #end(post: Post): Promise<void> {
    const { child } = post
    if (child === null) return
    child.kill(post.program.stopSignal)
    const kill = this.#clock.after(this.#settings.killMs, () => child.kill('SIGKILL'))
    await post.ended
    kill.stop()
  }

  #drop(post: Post): void {
    post.retry?.stop()
    for (const posts of this.#stages) {
      const at = posts.indexOf(post)
      if (at >= 0) posts.splice(at, 1)
    }
  }

  #start(post: Post): void {
    const { name, command, args } = post.program
    const startedAt = this.#clock.elapsed()
    // A group of its own, so that Ctrl-C reaches this supervisor alone; its standard input ends with
    // us, whatever ends us, and tells the program so.
    const child = spawn(command, args, {
      stdio: ['pipe', 'inherit', 'inherit'],
      detached: true,
      env: this.#settings.environment,
    })
    const ended = Promise.withResolvers<void>()
    post.child = child
    post.ended = ended.promise
    const over = (code: number | null, how: Readonly<Record<string, unknown>>): void => {
      post.child = null
      ended.resolve()
      const isFinal = code !== null && this.#settings.finalCodes.includes(code)
      const lasted = this.#clock.elapsed() - startedAt >= (this.#settings.steadyMs ?? 10_000)
      if (lasted && !isFinal) {
        post.hasServed = true
        post.backoff.reset()
      }
      if (this.#stopping) return
      if (code === this.#settings.doneCode) {
        this.#drop(post)
        this.#logger.info({ program: name }, 'program is done')
        return
      }
      if (isFinal && !post.hasServed && !post.isLate) {
        void this.#stopWith(code)
        return
      }
      const waitMs = post.backoff.nextMs()
      this.#logger.warn({ program: name, ...how, waitMs }, 'program ended; starting it again')
      post.retry = this.#clock.after(waitMs, () => this.#start(post))
    }
    child.once('exit', (code, signal) => over(code, { code, signal }))
    child.on('error', (error) => {
      // Also told when a signal could not be sent; only a child that never was is over.
      if (child.pid === undefined) over(null, { error: error.message })
    })
  }
}
