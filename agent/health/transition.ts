/** Owns the line that every change of a check's state leaves in the log. */

import type { Logger } from '#shared/logging/logger.ts'
import type { HealthState, HealthStatus } from './check-rules.ts'
import type { RunningCheckSettings } from './running-check.ts'

/** Logs `before -> after`; what takes an instance down, as a warning. */
export function logTransition(
  logger: Logger,
  { service, check }: RunningCheckSettings,
  before: HealthState,
  { state, detail }: HealthStatus,
): void {
  const fields = { service, check: check.name, detail }
  const words = `health: ${before} -> ${state}`
  if (state === 'failing' || state === 'warning') logger.warn(fields, words)
  else logger.info(fields, words)
}
