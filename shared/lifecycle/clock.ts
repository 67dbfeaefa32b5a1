/**
 * Owns time and randomness as ports. Rooms take them as parts; only composition roots and tests
 * make them.
 */

import { randomBytes, randomInt } from 'node:crypto'
import { performance } from 'node:perf_hooks'

/** A timer that can be stopped; stopping twice is fine. */
export interface Timer {
  stop(): void
}

/** Time as a room may know it. */
export interface Clock {
  /** Milliseconds since the epoch; may jump. For timestamps only. */
  now(): number
  /** Monotonic milliseconds, with fractions. For durations. */
  elapsed(): number
  /** Runs `run` once after `ms`. A pending timer does not keep the process alive. */
  after(ms: number, run: () => void): Timer
  /** Runs `run` every `ms`. Does not keep the process alive. */
  every(ms: number, run: () => void): Timer
}

/** Randomness as a room may know it. */
export interface Random {
  /** Uniform in [0, 1); not for secrets. */
  fraction(): number
  /** Cryptographically strong bytes. */
  bytes(count: number): Buffer
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms)
    timer.unref()
    return { stop: () => clearTimeout(timer) }
  },
  every(ms, run) {
    const timer = setInterval(run, ms)
    timer.unref()
    return { stop: () => clearInterval(timer) }
  },
}

/** The machine's randomness. */
export const systemRandom: Random = {
  fraction: () => randomInt(2 ** 47) / 2 ** 47,
  bytes: (count) => randomBytes(count),
}

/** Waits `ms` by `clock`, or less when `signal` aborts; never rejects. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) {
      resolve()
      return
    }
    const done = (): void => {
      timer.stop()
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = clock.after(ms, done)
    signal?.addEventListener('abort', done)
  })
}
