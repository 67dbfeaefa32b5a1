/** Owns the seam between the board and what drives one check of one instance. Types only. */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HealthCheck } from '#shared/model/health-check.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { HealthStatus } from './check-rules.ts'
import type { Probe } from './probe.ts'

/** Collaborators of a check. */
export interface RunningCheckParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly probe: Probe
  /** Told of every change of state, after the fact. */
  readonly onTransition: () => void
}

/** Settings of a check. */
export interface RunningCheckSettings {
  readonly service: ServiceName
  readonly address: string
  readonly port: number
  readonly check: HealthCheck
}

/** A check under way. */
export interface RunningCheck {
  readonly settings: RunningCheckSettings
  readonly status: HealthStatus
  start(): void
  stop(): Promise<void>
}
