/**
 * Owns the load of a soak: the callers of every host, what they count, and what went wrong in a
 * stretch of time. The callers themselves are `load-program.ts`.
 */

import { join } from 'node:path'
import type { Child } from '#cli/demo/child.ts'
import type { DemoHost } from '#cli/demo/demo-host.ts'

/** What some callers of a host call. */
export interface LoadTarget {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly clients: number
  /** A connection for each request. */
  readonly fresh: boolean
  /** About how long a client rests between two requests, milliseconds. */
  readonly pauseMs: number
}

/** What a host's callers tell. */
export interface LoadLine {
  readonly requests: number
  readonly failed: number
  /** New ones since the line before. */
  readonly failures: readonly { readonly atMs: number; readonly what: string }[]
  /** By target, then by the host that answered. */
  readonly answered: Readonly<
    Record<string, Readonly<Record<string, { readonly count: number; readonly lastAtMs: number }>>>
  >
}

/** What happened to the callers in a stretch of time. */
export interface Stretch {
  readonly requests: number
  readonly failed: number
  /** The first few, each with its time in the stretch and the calling host. */
  readonly failures: readonly string[]
  /** When the last of them ended, milliseconds since the epoch; 0: there was none. */
  readonly lastFailureMs: number
}

interface Callers {
  readonly host: DemoHost
  readonly child: Child
  line: LoadLine | null
  readonly failures: { readonly atMs: number; readonly what: string }[]
}

const program = join(import.meta.dirname, 'load-program.ts')
const mostKept = 10_000

/** See the header. */
export class SoakLoad {
  readonly #callers: readonly Callers[]

  /** Starts the callers of each host. */
  constructor(
    parts: { readonly hosts: readonly DemoHost[]; readonly node: string },
    settings: {
      readonly targetsOf: (host: DemoHost) => readonly LoadTarget[]
      /** How long an answer may take before it counts as none. */
      readonly patienceMs: number
    },
  ) {
    this.#callers = parts.hosts.map((host) => {
      const targets = JSON.stringify(settings.targetsOf(host))
      const words = [parts.node, program, targets, String(settings.patienceMs)] as const
      const callers: Callers = {
        host,
        failures: [],
        line: null,
        child: host.start('load', words, (text) => {
          const line = JSON.parse(text) as LoadLine
          callers.line = line
          if (callers.failures.length < mostKept) callers.failures.push(...line.failures)
        }),
      }
      return callers
    })
  }

  /** Requests finished so far. */
  get requests(): number {
    return this.#sum(({ requests }) => requests)
  }

  /** Answers so far that a host's callers had. */
  answersTo(host: string): number {
    const line = this.#callers.find((one) => one.host.name === host)?.line
    return line === null || line === undefined ? 0 : line.requests - line.failed
  }

  /** When callers on the hosts that `from` picks last had an answer of `host`; 0 for never. */
  lastAnswerMs(host: string, from: (caller: string) => boolean): number {
    const picked = this.#callers.filter((one) => from(one.host.name))
    return Math.max(
      0,
      ...picked.flatMap(({ line }) =>
        Object.values(line?.answered ?? {}).map((byHost) => byHost[host]?.lastAtMs ?? 0),
      ),
    )
  }

  /** Begins a stretch; answers how to end it. `from` picks the calling hosts that count. */
  stretch(from: (caller: string) => boolean = () => true): (untilMs?: number) => Stretch {
    const sinceMs = Date.now()
    const count = (): readonly [number, number] => [
      this.#sum(({ requests }, host) => (from(host) ? requests : 0)),
      this.#sum(({ failed }, host) => (from(host) ? failed : 0)),
    ]
    const [requests, failed] = count()
    return (untilMs = Infinity) => {
      const found = this.#callers
        .filter(({ host }) => from(host.name))
        .flatMap(({ host, failures }) =>
          failures
            .filter(({ atMs }) => atMs >= sinceMs && atMs < untilMs)
            .map(({ atMs, what }) => ({ atMs, what: `${host.name} ${what}` })),
        )
      const now = count()
      return {
        requests: now[0] - requests,
        failed: untilMs === Infinity ? now[1] - failed : found.length,
        failures: found.slice(0, 10).map(({ atMs, what }) => {
          return `${((atMs - sinceMs) / 1000).toFixed(1)} s in, ${what}`
        }),
        lastFailureMs: Math.max(0, ...found.map(({ atMs }) => atMs)),
      }
    }
  }

  /** Ends all callers. */
  async stop(): Promise<void> {
    await Promise.all(this.#callers.map(({ child }) => child.stop(0)))
  }

  #sum(of: (line: LoadLine, host: string) => number): number {
    return this.#callers.reduce((sum, { host, line }) => {
      return sum + (line === null ? 0 : of(line, host.name))
    }, 0)
  }
}
