/**
 * Owns how a limit of the host is shared out among its workers: evenly, the first ones taking what
 * is left over. Each has at least one, so that a host of many workers never has a worker that only
 * refuses.
 */

/** The part of `limit` that the worker of this index keeps to. */
export function shareOf(limit: number, index: number, workers: number): number {
  return Math.max(1, Math.floor(limit / workers) + (index < limit % workers ? 1 : 0))
}
