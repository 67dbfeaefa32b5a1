/**
 * Owns what this host says in the store: its presence, and the instances that are fit to be called.
 * Pure.
 */

import type { Finding } from '#shared/model/finding.ts'
import { labelsOf } from '#shared/model/instance-labels.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import type { HostPresence, InstanceRecord, Protocol } from '#shared/model/records.ts'
import { encodeRecord } from '#shared/schema/records.ts'
import { instanceKey, presenceKey } from '#shared/store/keys.ts'
import { onlyInstance } from './roster.ts'

/** Why an instance is not offered, in the order in which they are asked. */
export type Withheld = 'drained' | 'no-certificate' | 'not-healthy' | 'not-asked' | 'no-tunnel'

/** What is known of an instance when it is asked whether to offer it. */
export interface Fitness {
  readonly healthy: boolean
  /** Whether a health check warns: it takes part with its weight for that. @default false */
  readonly warning?: boolean
  /** What was found of how it speaks. */
  readonly finding?: Finding | null
  /** How its bytes are carried; null while that is not known. @default as the manifest says */
  readonly protocol?: Protocol | null
  /** Whether this host holds a valid certificate of the service. */
  readonly certified: boolean
}

/** What to publish, and what is not and why. */
export interface Publication {
  readonly desired: ReadonlyMap<string, string>
  /** Last values by key: what is written just before a key is deleted on purpose. */
  readonly farewells: ReadonlyMap<string, string>
  /** The instances offered, as published. */
  readonly offered: readonly InstanceRecord[]
  readonly withheld: ReadonlyMap<ServiceName, Withheld>
}

/**
 * Decides what to publish. Without a presence (no worker takes tunnels yet) nothing is: other hosts
 * could not come.
 */
export function publicationOf(
  host: HostName,
  presence: HostPresence | null,
  manifests: readonly (Manifest & { readonly port: NonNullable<Manifest['port']> })[],
  fitnessOf: (service: ServiceName) => Fitness,
): Publication {
  const desired = new Map<string, string>()
  const farewells = new Map<string, string>()
  const offered: InstanceRecord[] = []
  const withheld = new Map<ServiceName, Withheld>()
  if (presence !== null) desired.set(presenceKey(host), encodeRecord(presence))
  for (const manifest of manifests) {
    const { service, port, intercept, onAgentDown } = manifest
    const fitness = fitnessOf(service)
    const protocol = fitness.protocol ?? manifest.protocol
    const reason = withholding(fitness, presence)
    if (reason !== null) {
      withheld.set(service, reason)
      continue
    }
    const record: InstanceRecord = {
      service,
      host,
      id: onlyInstance,
      protocol,
      port,
      weight: fitness.warning === true ? manifest.warningWeight : manifest.weight,
      state: 'up',
      ...(intercept.length === 0 ? {} : { intercept }),
      ...(onAgentDown === 'deny' ? { onAgentDown } : {}),
      ...labelsOf({ ...manifest, ...fitness.finding }),
    }
    const key = instanceKey(service, host, onlyInstance)
    offered.push(record)
    desired.set(key, encodeRecord(record))
    farewells.set(key, encodeRecord({ ...record, state: 'left' }))
  }
  return { desired, farewells, offered, withheld }
}

function withholding(fitness: Fitness, presence: HostPresence | null): Withheld | null {
  if (!fitness.certified) return 'no-certificate'
  if (!fitness.healthy) return 'not-healthy'
  if (fitness.protocol === null) return 'not-asked'
  return presence === null ? 'no-tunnel' : null
}
