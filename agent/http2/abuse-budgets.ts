/**
 * Owns the budgets that end an abusive connection: token buckets for the cheap frames that cost us
 * more than they cost the sender. Pure; time is an argument.
 */

/** How much of something a peer may do. */
export interface Budget {
  /** At once. */
  readonly burst: number
  /** For ever. */
  readonly perSecond: number
}

/** What is budgeted. */
export interface AbuseSettings {
  /**
   * Streams reset before they were answered, by the peer or by us for its faults (rapid reset,
   * CVE-2023-44487 and CVE-2025-8671).
   */
  readonly resets: Budget
  readonly settings: Budget
  readonly pings: Budget
  /** Frames without content: empty DATA, PRIORITY, unknown types, tiny window updates. */
  readonly noise: Budget
}

/** Fit for peers we know nothing about. */
export const defaultAbuseSettings: AbuseSettings = {
  resets: { burst: 1000, perSecond: 100 },
  settings: { burst: 32, perSecond: 1 },
  pings: { burst: 100, perSecond: 10 },
  noise: { burst: 10_000, perSecond: 1000 },
}

/** One token bucket. */
export class TokenBucket {
  readonly #budget: Budget
  #tokens: number
  #filledAt: number

  constructor(budget: Budget, nowMs: number) {
    this.#budget = budget
    this.#tokens = budget.burst
    this.#filledAt = nowMs
  }

  /** Takes a token at `nowMs` (monotonic); false when there is none. */
  spend(nowMs: number): boolean {
    const { burst, perSecond } = this.#budget
    const refill = ((nowMs - this.#filledAt) / 1000) * perSecond
    this.#tokens = Math.min(burst, this.#tokens + refill)
    this.#filledAt = nowMs
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}

/** The buckets of one connection. */
export class AbuseBudgets {
  readonly #buckets: Readonly<Record<keyof AbuseSettings, TokenBucket>>

  /**
   * Those of a connection beside others of the same peer spend resets and noise from the buckets of
   * `peer`, lest a new connection bring new patience. Pings and settings are each connection's own:
   * an honest one sends them though it carries nothing, and a peer may have many.
   */
  constructor(settings: AbuseSettings, nowMs: number, peer: AbuseBudgets | null = null) {
    const shared = peer === null ? null : peer.#buckets
    this.#buckets = {
      resets: shared?.resets ?? new TokenBucket(settings.resets, nowMs),
      settings: new TokenBucket(settings.settings, nowMs),
      pings: new TokenBucket(settings.pings, nowMs),
      noise: shared?.noise ?? new TokenBucket(settings.noise, nowMs),
    }
  }

  /** Charges one event; false when the peer has gone too far. */
  spend(what: keyof AbuseSettings, nowMs: number): boolean {
    return this.#buckets[what].spend(nowMs)
  }
}
