/** Owns asking again what a crowded machine or a renewed certificate made fail, as an agent would. */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { until } from './until.ts'

/** Answers what `run` answers at last; what is worth another try is tried again, all else is thrown. */
export async function inTheEnd<T>(what: string, run: () => Promise<T>): Promise<T> {
  const { answer } = await until(what, async () => {
    try {
      return { answer: await run() }
    } catch (error) {
      if (error instanceof MeshError && error.retry) return null
      throw error
    }
  })
  return answer
}

/** Waits up to a minute until something holds, and asks again where a call ended that may be made again. */
export async function patiently(
  what: string,
  holds: () => boolean | Promise<boolean>,
): Promise<void> {
  await until(
    what,
    async () => {
      try {
        return await holds()
      } catch (error) {
        if (error instanceof MeshError && error.retry) return false
        throw error
      }
    },
    { withinMs: 60_000 },
  )
}
