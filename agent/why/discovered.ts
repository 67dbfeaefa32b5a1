/** Owns the step of `why` that says how a service is known here where not all are followed. Pure. */

import type { ServiceName } from '#shared/model/names.ts'
import type { WhyStep } from '#shared/model/why.ts'

/** What came of looking for a service; null: it is known, or was found. */
export type Sought = 'unknown' | 'away' | 'overloaded' | null

/** The step; `wasKnown`: it was in use here already. */
export function discovered(service: ServiceName, wasKnown: boolean, sought: Sought): WhyStep {
  const name = 'discovery'
  const ok = { name, verdict: 'ok', cause: '', fix: '' } as const
  const failed = { name, verdict: 'failed' } as const
  switch (sought) {
    case null:
      return wasKnown
        ? { ...ok, finding: `${service} is in use on this host and followed` }
        : {
            ...ok,
            finding: `${service} was discovered on demand just now; a first call is held for it`,
          }
    case 'unknown':
      return { ...ok, finding: `the store was asked for ${service} just now and has none` }
    case 'away':
      return {
        ...failed,
        finding: `${service} is not in use on this host, and was not found in time`,
        cause: 'the mesh is too large to be followed whole, and the store did not answer',
        fix: 'meshctl check: store-reachable; name it in "requires" so that it is always known',
      }
    case 'overloaded':
      return {
        ...failed,
        finding: `${service} is not in use on this host, and there is no room for it`,
        cause: 'too many services are looked for at once, or in use',
        fix: 'see mesh_services_in_use and mesh_service_lookups_total; raise wholeMesh',
      }
  }
}
