/** Owns the one rule of renewal that agents and controllers share. Pure. */

/**
 * When to renew a certificate that has just been issued for `ttlMs`: after half of it, ten percent
 * more or less, so that certificates issued together are not renewed together.
 *
 * @param fraction uniform in [0, 1)
 */
export function renewAfterMs(ttlMs: number, fraction: number): number {
  return Math.max(0, ttlMs) * (0.4 + 0.2 * fraction)
}
