/**
 * Owns the checkers of this host: one for every manifest with a port, begun, replaced and ended as
 * manifests come, change and go; and the board on which their states can be read.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HealthCheck, Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import { unchecked, type HealthStatus } from './check-rules.ts'
import { Checker, type CheckerSettings } from './checker.ts'
import { probe as networkProbe, type Probe } from './probe.ts'

/** Collaborators of a board. */
export interface HealthBoardParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** @default checks over the network */
  readonly probe?: Probe
}

/** See the header. */
export class HealthBoard {
  readonly #parts: HealthBoardParts
  readonly #checkers = new Map<ServiceName, Checker>()
  readonly #listeners = new Set<() => void>()
  /** Checkers that were replaced and have not ended yet. */
  readonly #ending = new Set<Promise<void>>()

  constructor(parts: HealthBoardParts) {
    this.#parts = parts
  }

  /** What is known of a service's local instance; null where it is not checked. */
  statusOf(service: ServiceName): HealthStatus | null {
    return this.#checkers.get(service)?.status ?? null
  }

  /** Calls back after a state has changed; answers how to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Checks what these manifests ask for from now on, and nothing else. */
  apply(manifests: readonly Manifest[]): void {
    const wanted = new Map(manifests.map((manifest) => [manifest.service, manifest]))
    for (const [service, checker] of this.#checkers) {
      const manifest = wanted.get(service)
      if (manifest?.port === undefined) this.#end(service, checker)
    }
    for (const { service, address, port, health } of manifests) {
      if (port === undefined) continue
      const settings: CheckerSettings = { service, address, port, health }
      const known = this.#checkers.get(service)
      if (known !== undefined && isSame(known.settings, settings)) continue
      const isSameInstance =
        known !== undefined && known.settings.address === address && known.settings.port === port
      if (known !== undefined) this.#end(service, known)
      this.#begin(settings, isSameInstance ? known.status : unchecked)
    }
  }

  /** Ends every check. */
  async stop(): Promise<void> {
    for (const [service, checker] of this.#checkers) this.#end(service, checker)
    await Promise.all(this.#ending)
  }

  #begin(settings: CheckerSettings, status: HealthStatus): void {
    const { clock, random, logger, probe = networkProbe } = this.#parts
    const onTransition = (): void => {
      for (const listener of this.#listeners) listener()
    }
    const checker = new Checker({ clock, random, logger, probe, onTransition }, settings, status)
    this.#checkers.set(settings.service, checker)
    checker.start()
  }

  #end(service: ServiceName, checker: Checker): void {
    this.#checkers.delete(service)
    const ending = checker.stop().finally(() => this.#ending.delete(ending))
    this.#ending.add(ending)
  }
}

function isSame(a: CheckerSettings, b: CheckerSettings): boolean {
  return a.address === b.address && a.port === b.port && isSameCheck(a.health, b.health)
}

function isSameCheck(a: HealthCheck, b: HealthCheck): boolean {
  return (
    a.kind === b.kind &&
    a.path === b.path &&
    a.intervalMs === b.intervalMs &&
    a.timeoutMs === b.timeoutMs &&
    a.rise === b.rise &&
    a.fall === b.fall
  )
}
