/**
 * Owns the watch over what every host believes of the mesh while things go wrong: asks all of them
 * again and again for their services, and counts whoever misses an instance that is there.
 */

import type { DemoHost } from '#cli/demo/demo-host.ts'

/** Settings of a watch. */
export interface MembershipWatchSettings {
  /** Instances that must never be missing, as `service@host`. */
  readonly wanted: readonly string[]
  /** @default 250 */
  readonly everyMs?: number
}

/** What a host sees: instances with their weights, as `service@host`. */
export async function seenBy(host: DemoHost): Promise<ReadonlyMap<string, number>> {
  const services = await host.admin.ask('services')
  return new Map(
    services.flatMap(({ name, instances }) =>
      instances.map((one) => [`${name}@${one.host}`, one.weight] as const),
    ),
  )
}

/** See the header. */
export class MembershipWatch {
  readonly #hosts: readonly DemoHost[]
  readonly #settings: MembershipWatchSettings
  readonly #missing = new Set<string>()
  #rounds = 0
  #stopped = false
  readonly #running: Promise<void>

  constructor(hosts: readonly DemoHost[], settings: MembershipWatchSettings) {
    this.#hosts = hosts
    this.#settings = settings
    this.#running = this.#run()
  }

  /** Ends it; answers who missed whom, each once, and how often everybody was asked. */
  async stop(): Promise<{ readonly missing: readonly string[]; readonly rounds: number }> {
    this.#stopped = true
    await this.#running
    return { missing: [...this.#missing], rounds: this.#rounds }
  }

  async #run(): Promise<void> {
    const { wanted, everyMs = 250 } = this.#settings
    while (!this.#stopped) {
      await Promise.all(
        this.#hosts.map(async (host) => {
          // One that does not answer believes nothing new.
          const seen = await seenBy(host).catch(() => null)
          if (seen === null) return
          for (const one of wanted) {
            if (!seen.has(one)) this.#missing.add(`${host.name} misses ${one}`)
          }
        }),
      )
      this.#rounds += 1
      await new Promise((resolve) => setTimeout(resolve, everyMs))
    }
  }
}
