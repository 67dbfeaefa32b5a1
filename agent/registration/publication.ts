/**
 * Owns what this host says in the store: its presence, and the instances that are fit to be called.
 * Pure.
 */

import { labelsOf } from '#shared/model/instance-labels.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import type { HostPresence, InstanceRecord } from '#shared/model/records.ts'
import { encodeRecord } from '#shared/schema/records.ts'
import { instanceKey, presenceKey } from '#shared/store/keys.ts'
import { onlyInstance } from './roster.ts'

/** Why an instance is not offered, in the order in which they are asked. */
export type Withheld = 'no-certificate' | 'not-healthy' | 'no-tunnel'

/** What is known of an instance when it is asked whether to offer it. */
export interface Fitness {
  readonly healthy: boolean
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
    const { service, protocol, port, weight, intercept, onAgentDown } = manifest
    const reason = withholding(fitnessOf(service), presence)
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
      weight,
      state: 'up',
      ...(intercept.length === 0 ? {} : { intercept }),
      ...(onAgentDown === 'deny' ? { onAgentDown } : {}),
      ...labelsOf(manifest),
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
  return presence === null ? 'no-tunnel' : null
}
