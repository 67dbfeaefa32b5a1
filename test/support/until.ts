/** Owns waiting for something to become so, for tests of things that happen by themselves. */

import { setTimeout } from 'node:timers/promises'

/**
 * Resolves with the first answer of `ask` that is neither null, undefined nor false. Gives up after
 * `withinMs`, which only a broken program reaches.
 */
export async function until<T>(
  what: string,
  ask: () => T | Promise<T>,
  settings: { readonly withinMs?: number } = {},
): Promise<NonNullable<T>> {
  const end = performance.now() + (settings.withinMs ?? 60_000)
  for (;;) {
    const answer = await ask()
    if (answer !== null && answer !== undefined && answer !== false) return answer
    if (performance.now() > end) throw new Error(`gave up waiting until ${what}`)
    await setTimeout(5)
  }
}
