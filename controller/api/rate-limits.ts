/**
 * Owns how often one caller may call: a token bucket each, in a map that never outgrows its bound
 * because the longest unused ones are forgotten first.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'

/** Settings of a limit. */
export interface RateLimitSettings {
  /** Calls at once. */
  readonly burst: number
  readonly perSecond: number
  /** Callers remembered. @default 10_000 */
  readonly maxCallers?: number
}

interface Bucket {
  tokens: number
  /** Monotonic milliseconds. */
  at: number
}

/** See the header. */
export class RateLimits {
  readonly #clock: Clock
  readonly #settings: RateLimitSettings
  /** In the order of last use. */
  readonly #buckets = new Map<string, Bucket>()

  constructor(parts: { readonly clock: Clock }, settings: RateLimitSettings) {
    this.#clock = parts.clock
    this.#settings = settings
  }

  /** Whether `caller` may make one call now. */
  take(caller: string): boolean {
    const { burst, perSecond, maxCallers = 10_000 } = this.#settings
    const now = this.#clock.elapsed()
    const bucket = this.#buckets.get(caller) ?? { tokens: burst, at: now }
    bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) / 1000) * perSecond)
    bucket.at = now
    this.#buckets.delete(caller)
    this.#buckets.set(caller, bucket)
    if (this.#buckets.size > maxCallers) {
      for (const oldest of this.#buckets.keys()) {
        this.#buckets.delete(oldest)
        break
      }
    }
    if (bucket.tokens < 1) return false
    bucket.tokens--
    return true
  }
}
