/**
 * Owns the rules of renewal: what is due, and when to look again. Pure: time and chance are
 * arguments. `identity-keeper.ts` is the loop that drives them.
 */

/** How one identity stands. Times are milliseconds since the epoch. */
export interface Standing {
  /** What is held now, or null. */
  readonly held: { readonly renewAtMs: number; readonly notAfterMs: number } | null
  /** No earlier than this after a failure; 0 when the last try worked. */
  readonly retryAtMs: number
}

/** When to try for a certificate, or again. An ended one is due at once, retries apart. */
export function dueAtMs(standing: Standing): number {
  const wanted =
    standing.held === null ? 0 : Math.min(standing.held.renewAtMs, standing.held.notAfterMs)
  return Math.max(wanted, standing.retryAtMs)
}

/** Whether what is held still proves anything. */
export function isValid(standing: Standing, nowMs: number): boolean {
  return standing.held !== null && standing.held.notAfterMs > nowMs
}

/**
 * How long to wait after a failure: what the backoff says, but while a certificate lives no longer
 * than a quarter of what is left of it, so that short-lived ones get their tries too.
 */
export function retryAfterMs(backoffMs: number, standing: Standing, nowMs: number): number {
  const left = standing.held === null ? 0 : standing.held.notAfterMs - nowMs
  return left > 0 ? Math.min(backoffMs, Math.max(500, left / 4)) : backoffMs
}
