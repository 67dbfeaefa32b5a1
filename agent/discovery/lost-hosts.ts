/**
 * Owns which of the hosts that vanished from the store are still there: each is asked again and
 * again, few at a time, for as long as its records are kept. It decides nothing about records.
 */

import type { Clock, Random, Timer } from '#shared/lifecycle/clock.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import type { HostView } from '#shared/model/snapshot.ts'

/** What asking leans on. */
export interface LostHostsParts {
  readonly clock: Clock
  readonly random: Random
  /** `HostAsker.ask` fits: `done` is called once, later, unless what it answers was called before. */
  readonly ask: (
    host: HostView,
    service: ServiceName,
    done: (answer: 'proven' | 'silent' | 'unknown') => void,
  ) => () => void
}

/** A host to ask, and a service it has offered. */
export interface LostHost {
  readonly view: HostView
  readonly service: ServiceName
}

interface Asked {
  lost: LostHost
  /** Answers missed in a row. */
  misses: number
  /** When to ask next, monotonic milliseconds; Infinity while it is being asked. */
  nextAt: number
  cancel: (() => void) | null
}

const mostAtOnce = 32
const tickMs = 200
/** One lost packet is no death. */
const enoughMisses = 2
const againAfterMissMs = 300
/** Between questions to one that answers: each costs both a handshake, so many are asked less often. */
const againAfterAnswerMs = 2000
const perHostMs = 20

/** See the header. */
export class LostHosts {
  readonly #parts: LostHostsParts
  readonly #hosts = new Map<HostName, Asked>()
  #asking = 0
  #timer: Timer | null = null

  constructor(parts: LostHostsParts) {
    this.#parts = parts
  }

  /** The hosts that are asked. */
  get names(): readonly HostName[] {
    return [...this.#hosts.keys()]
  }

  /** Whether a host has been asked and has not answered. */
  isSilent(host: HostName): boolean {
    return (this.#hosts.get(host)?.misses ?? 0) >= enoughMisses
  }

  /** Whom to ask from now on; who is asked already goes on being asked. */
  watch(hosts: ReadonlyMap<HostName, LostHost>): void {
    for (const [name, asked] of this.#hosts) {
      if (hosts.has(name)) continue
      if (asked.cancel !== null) this.#asking -= 1
      asked.cancel?.()
      this.#hosts.delete(name)
    }
    const nextAt = this.#parts.clock.elapsed()
    for (const [name, lost] of hosts) {
      const asked = this.#hosts.get(name)
      if (asked === undefined) this.#hosts.set(name, { lost, misses: 0, nextAt, cancel: null })
      else asked.lost = lost
    }
    this.#tick()
  }

  /** Asks nobody any more. */
  stop(): void {
    this.watch(new Map())
  }

  #tick(): void {
    this.#timer?.stop()
    this.#timer = null
    if (this.#hosts.size === 0) return
    const { clock } = this.#parts
    const now = clock.elapsed()
    for (const asked of this.#hosts.values()) {
      if (this.#asking >= mostAtOnce) break
      if (asked.nextAt <= now) this.#ask(asked)
    }
    this.#timer = clock.after(tickMs, () => this.#tick())
  }

  #ask(asked: Asked): void {
    const { clock, random, ask } = this.#parts
    const { view, service } = asked.lost
    this.#asking += 1
    asked.nextAt = Infinity
    asked.cancel = ask(view, service, (answer) => {
      this.#asking -= 1
      asked.cancel = null
      asked.misses = answer === 'silent' ? asked.misses + 1 : 0
      const pauseMs =
        answer === 'silent'
          ? againAfterMissMs
          : Math.max(againAfterAnswerMs, this.#hosts.size * perHostMs)
      asked.nextAt = clock.elapsed() + pauseMs * (0.8 + 0.4 * random.fraction())
    })
  }
}
