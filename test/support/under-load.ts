/** Owns the shape of a test in which callers must notice nothing of what happens. */

import type { Test } from 'tap'
import { Callers, type CallTarget } from './callers.ts'
import type { MeshWorld } from './mesh-world.ts'

/** Waits until callers have had fifty more answers, of one host or of any. */
export type More = (host?: string) => Promise<void>

/** Calls before, while and after something happens, and demands that no call failed. */
export async function underLoad(
  t: Pick<Test, 'same'>,
  settings: {
    readonly mesh: MeshWorld
    readonly targets: readonly CallTarget[]
    readonly happens: (more: More) => Promise<void>
  },
): Promise<void> {
  const callers = new Callers(settings)
  const more: More = async (host) => {
    const enough = callers.answered(host) + 50
    await settings.mesh.until(`callers get on at ${host ?? 'any host'}`, () => {
      return callers.answered(host) >= enough
    })
  }
  try {
    await more()
    await settings.happens(more)
    await more()
  } finally {
    await callers.stop()
  }
  t.same(callers.failures, [], `0 of ${callers.requests} requests failed`)
}
