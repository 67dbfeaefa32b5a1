/** Owns waiting for a condition that some event brings about, without polling. */

/** A way to be told that something may have changed; answers how to stop that. */
export type Subscribe = (listener: () => void) => () => void

/**
 * Waits until `holds`, asking again at each event of any source. Keeps the process alive meanwhile,
 * because the mesh's own timers do not.
 */
export async function waitFor(
  holds: () => boolean,
  ...sources: readonly Subscribe[]
): Promise<void> {
  if (holds()) return
  const alive = setInterval(() => {}, 1000)
  const stops: (() => void)[] = []
  try {
    await new Promise<void>((resolve, reject) => {
      const ask = (): void => {
        try {
          if (holds()) resolve()
        } catch (error) {
          reject(error)
        }
      }
      for (const source of sources) stops.push(source(ask))
    })
  } finally {
    for (const stop of stops) stop()
    clearInterval(alive)
  }
}
