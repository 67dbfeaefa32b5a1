/**
 * Owns the retry budget of one service: retries may be a fifth of recent requests, and a few a
 * second when there are next to none, so that a failing service is never hit by a storm of them.
 * Pure: the time is an argument.
 */

/** Settings of a retry budget. */
export interface RetryBudgetSettings {
  /** Retries earned by each request. @default 0.2 */
  readonly share: number
  /** Retries a second that are always allowed. @default 10 */
  readonly perSecond: number
  /** Most retries that can be saved up. @default 100 */
  readonly most: number
}

/** The defaults of {@link RetryBudgetSettings}. */
export const retryBudgetDefaults: RetryBudgetSettings = { share: 0.2, perSecond: 10, most: 100 }

/** Earns by requests and time, spends by retries. */
export class RetryBudget {
  readonly #settings: RetryBudgetSettings
  #balance: number
  #at = 0

  constructor(settings: RetryBudgetSettings = retryBudgetDefaults) {
    this.#settings = settings
    this.#balance = settings.perSecond
  }

  /** A first attempt was made. */
  requested(): void {
    this.#balance = Math.min(this.#settings.most, this.#balance + this.#settings.share)
  }

  /**
   * Takes one retry, or answers false when the budget is spent.
   * @param now monotonic milliseconds
   */
  spend(now: number): boolean {
    const { perSecond, most } = this.#settings
    const earned = (Math.max(0, now - this.#at) / 1000) * perSecond
    if (this.#balance < perSecond) this.#balance = Math.min(perSecond, this.#balance + earned)
    this.#at = now
    this.#balance = Math.min(most, this.#balance)
    if (this.#balance < 1) return false
    this.#balance -= 1
    return true
  }
}
