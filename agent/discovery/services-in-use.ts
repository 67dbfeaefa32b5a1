/**
 * Owns which services this host uses: those its manifests name, for as long as they do, and those that
 * were called or asked for, for a day after the last time. Bounded; it follows nothing itself. Pure:
 * times are arguments, milliseconds since the epoch.
 */

import type { ServiceName } from '#shared/model/names.ts'

/** Settings of the services in use. */
export interface ServicesInUseSettings {
  /** Most services beside those that manifests name. @default 2000 */
  readonly most?: number
  /** How long a service is kept after its last use. @default one day */
  readonly keepMs?: number
  /** What was used this recently gives its place to nobody. @default 10 minutes */
  readonly spareMs?: number
}

/** See the header. */
export class ServicesInUse {
  readonly #most: number
  readonly #keepMs: number
  readonly #spareMs: number
  #pinned: ReadonlySet<ServiceName> = new Set()
  /** When each was used last, the longest unused first. */
  readonly #used = new Map<ServiceName, number>()

  constructor(settings: ServicesInUseSettings = {}) {
    this.#most = settings.most ?? 2000
    this.#keepMs = settings.keepMs ?? 86_400_000
    this.#spareMs = settings.spareMs ?? 600_000
  }

  /** All of them. */
  get all(): ReadonlySet<ServiceName> {
    return new Set([...this.#pinned, ...this.#used.keys()])
  }

  /** When those that were called or asked for were used last. */
  get used(): ReadonlyMap<ServiceName, number> {
    return this.#used
  }

  has(service: ServiceName): boolean {
    return this.#pinned.has(service) || this.#used.has(service)
  }

  /** Says which services manifests name; the whole set, each time. */
  pin(services: ReadonlySet<ServiceName>): void {
    this.#pinned = services
  }

  /** A service is used now. Answers false where there is no room for it. */
  use(service: ServiceName, now: number): boolean {
    if (!this.#used.delete(service) && this.#used.size >= this.#most) {
      const [oldest] = this.#used
      if (oldest === undefined || now - oldest[1] < this.#spareMs) return false
      this.#used.delete(oldest[0])
    }
    this.#used.set(service, now)
    return true
  }

  /** Forgets what nobody has used for long. */
  expire(now: number): void {
    for (const [service, at] of this.#used) {
      if (now - at < this.#keepMs) return
      this.#used.delete(service)
    }
  }

  /** Takes back what was in use when this host last wrote it down; what is newer here stays. */
  restore(used: Iterable<readonly [ServiceName, number]>): void {
    const newer = [...this.#used]
    const all = [...used].toSorted(([, a], [, b]) => a - b).slice(-this.#most)
    this.#used.clear()
    for (const [service, at] of [...all, ...newer]) {
      this.#used.delete(service)
      this.#used.set(service, at)
    }
  }
}
