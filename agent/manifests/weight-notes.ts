/**
 * Owns what a receipt tells of a weight for warnings where none can come. It is no reason to reject a file
 * that a host may have had for long. Pure.
 */

import type { HealthCheck } from '#shared/model/health-check.ts'
import type { Manifest } from '#shared/model/manifest.ts'

/** Which checks can say that a service works and wants less. */
const warns: Readonly<Record<HealthCheck['kind'], boolean>> = {
  tcp: false,
  http: true,
  grpc: false,
  systemd: false,
  push: true,
}

/** At most one line. */
export function weightNotes({ weight, warningWeight, health }: Manifest): readonly string[] {
  if (warningWeight === weight) return []
  if (health.some(({ kind, portName }) => warns[kind] && portName === undefined)) return []
  return [
    'warningWeight has no effect where no check of the whole service can warn: add an http check ' +
      '(status 429 warns) or a push check, or remove it',
  ]
}
