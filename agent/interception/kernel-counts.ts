/**
 * Owns what the kernel counts of the services here by itself: connections that came around the mesh,
 * and attempts of confined services to leave it. It asks once for all and changes nothing.
 */

import type { ServiceName } from '#shared/model/names.ts'
import { counterOf, egressCounterOf } from './elements.ts'
import { placesOf } from './claims.ts'
import type { LocalService } from './plan.ts'

/** What it leans on. */
export interface KernelCountsParts {
  /** Every counter of our table; may reject where the kernel cannot be asked. */
  readonly counters: () => Promise<ReadonlyMap<string, number>>
  readonly services: () => readonly LocalService[]
}

/** Counts by service, since each was last counted anew; one that is not there is not counted. */
export interface Counted {
  /** Plaintext connections to permissive services. */
  readonly plaintext: ReadonlyMap<ServiceName, number>
  /** What confined services were refused. */
  readonly egressRefused: ReadonlyMap<ServiceName, number>
}

/** See the header. Never rejects. */
export async function readKernelCounts(parts: KernelCountsParts): Promise<Counted> {
  const seen = await parts.counters().catch(() => new Map<string, number>())
  const plaintext = new Map<ServiceName, number>()
  const egressRefused = new Map<ServiceName, number>()
  for (const local of parts.services()) {
    const found = placesOf(local).flatMap(({ port }) => seen.get(counterOf(port)) ?? [])
    const refused = seen.get(egressCounterOf(local.service))
    if (found.length > 0) {
      const sum = found.reduce((all, count) => all + count, 0)
      plaintext.set(local.service, sum)
    }
    if (refused !== undefined) egressRefused.set(local.service, refused)
  }
  return { plaintext, egressRefused }
}
