/** Owns waiting for something to become so, for tests of things that happen by themselves. */

import { setTimeout } from 'node:timers/promises'

/**
 * Resolves with the first answer of `ask` that is neither null, undefined nor false; what `ask`
 * throws counts as not yet, and is the cause of giving up where it was the last word. Gives up after
 * `withinMs`, which only a broken program reaches.
 */
export async function until<T>(
  what: string,
  ask: () => T | Promise<T>,
  settings: { readonly withinMs?: number } = {},
): Promise<NonNullable<T>> {
  const end = performance.now() + (settings.withinMs ?? 60_000)
  for (;;) {
    let problem: unknown
    try {
      const answer = await ask()
      if (answer !== null && answer !== undefined && answer !== false) return answer
    } catch (error) {
      problem = error
    }
    if (performance.now() > end) {
      const why = problem instanceof Error ? `: ${problem.message}` : ''
      throw new Error(`gave up waiting until ${what}${why}`, { cause: problem })
    }
    await setTimeout(5)
  }
}
