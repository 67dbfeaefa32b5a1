/** Owns the demo's patience: something is asked again and again until it holds or cannot any more. */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'

/** Settings of a wait. */
export interface WaitSettings {
  readonly deadlineMs: number
  /** Why it can never hold any more; empty while it can. */
  readonly lost?: () => string
  /** What to show when it took too long. */
  readonly logs?: () => string
}

const everyMs = 50

/** Waits until `holds` answers true; what it throws counts as not yet. */
export async function waitFor(
  what: string,
  holds: () => boolean | Promise<boolean>,
  settings: WaitSettings,
): Promise<void> {
  const { deadlineMs, lost = () => '', logs = () => '' } = settings
  const deadline = performance.now() + deadlineMs
  let last = ''
  for (;;) {
    try {
      if (await holds()) return
      last = ''
    } catch (error) {
      last = error instanceof Error ? `: ${error.message}` : ''
    }
    const why = lost()
    if (why !== '')
      throw new MeshError(`while waiting until ${what}: ${why}`, { code: 'demo-fallen' })
    if (performance.now() > deadline) {
      const seconds = Math.round(deadlineMs / 1000)
      throw new MeshError(`after ${seconds} s still not so: ${what}${last}\n${logs()}`, {
        code: 'demo-deadline',
      })
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}
