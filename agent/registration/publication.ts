/**
 * Owns what this host says in the store: its presence, and the instances that are fit to be called.
 * Pure.
 */

import type { Finding } from '#shared/model/finding.ts'
import { labelsOf } from '#shared/model/instance-labels.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { HostName, PortName, ServiceName } from '#shared/model/names.ts'
import type { HostPresence, InstanceRecord, NamedPort, Protocol } from '#shared/model/records.ts'
import { encodeRecord } from '#shared/schema/records.ts'
import { instanceKey, presenceKey } from '#shared/store/keys.ts'
import { onlyInstance, type Serving } from './roster.ts'

/** Why an instance is not offered, in the order in which they are asked. */
export type Withheld =
  'drained' | 'no-certificate' | 'others-port' | 'not-healthy' | 'not-asked' | 'no-tunnel'

/** What is known of a named port. */
export interface PortFitness {
  readonly name: PortName
  /** Whether the checks that are about it alone pass. */
  readonly healthy: boolean
  /** How its bytes are carried; null while that is not known. */
  readonly protocol: Protocol | null
}

/** What is known of an instance when it is asked whether to offer it. */
export interface Fitness {
  readonly healthy: boolean
  /** Whether a health check warns: it takes part with its weight for that. @default false */
  readonly warning?: boolean
  /** What was found of how it speaks. */
  readonly finding?: Finding | null
  /** How its bytes are carried; null while that is not known. @default as the manifest says */
  readonly protocol?: Protocol | null
  /** Of each port that has a name. @default as the manifest says */
  readonly ports?: readonly PortFitness[]
  /** Whether others may call it at this host's address in plain. @default they may not */
  readonly plain?: boolean
  /** Whether this host holds a valid certificate of the service. */
  readonly certified: boolean
  /** Whether another user than the one whose manifest it is listens at a port of it. @default nobody does */
  readonly isOthers?: boolean
}

/** What to publish, and what is not and why. */
export interface Publication {
  readonly desired: ReadonlyMap<string, string>
  /** Last values by key: what is written just before a key is deleted on purpose. */
  readonly farewells: ReadonlyMap<string, string>
  /** The instances offered, as published. */
  readonly offered: readonly InstanceRecord[]
  readonly withheld: ReadonlyMap<ServiceName, Withheld>
  /** What each offered instance was made of, for the next publication: most of it says the same again. */
  readonly made: ReadonlyMap<ServiceName, MadeRecord>
}

/** An instance that may be offered, and what is known of it. */
export interface Offering {
  readonly manifest: Serving
  readonly fitness: Fitness
}

/** A record with what it was made of, and its texts. */
export interface MadeRecord extends Offering {
  readonly record: InstanceRecord
  readonly text: string
  readonly farewell: string
}

/** Publishes nothing yet. */
const blank: Publication = {
  desired: new Map(),
  farewells: new Map(),
  offered: [],
  withheld: new Map(),
  made: new Map(),
}

/**
 * Decides what to publish of some services; of all others the same as `before`, which was made with the
 * same presence. Without a presence (no worker takes tunnels yet) nothing is: other hosts could not come.
 * What says the same as before is the same object: a record, and the maps of all of them.
 */
export function publicationOf(
  { host, presence }: { readonly host: HostName; readonly presence: HostPresence | null },
  services: Iterable<ServiceName>,
  offeringOf: (service: ServiceName) => Offering | null,
  before: Publication = blank,
): Publication {
  const desired = new Edited(before.desired)
  const farewells = new Edited(before.farewells)
  const withheld = new Edited(before.withheld)
  const made = new Edited(before.made)
  desired.put(presenceKey(host), presence === null ? null : encodeRecord(presence))
  for (const service of services) {
    const key = instanceKey(service, host, onlyInstance)
    const offering = offeringOf(service)
    const reason = offering === null ? null : withholding(offering.fitness, presence)
    withheld.put(service, reason)
    const one =
      offering === null || reason !== null ? null : make(host, offering, before.made.get(service))
    made.put(service, one)
    desired.put(key, one?.text ?? null)
    farewells.put(key, one?.farewell ?? null)
  }
  const offered = desired.isOther
    ? Array.from(made.now.values(), ({ record }) => record)
    : before.offered
  return {
    desired: desired.now,
    farewells: farewells.now,
    offered,
    withheld: withheld.now,
    made: made.now,
  }
}

/** A map with changes: the same one until there is the first. A host may offer a thousand services. */
class Edited<K, V> {
  readonly #before: ReadonlyMap<K, V>
  #after: Map<K, V> | null = null

  constructor(before: ReadonlyMap<K, V>) {
    this.#before = before
  }

  get now(): ReadonlyMap<K, V> {
    return this.#after ?? this.#before
  }

  /** Whether it says anything else. */
  get isOther(): boolean {
    return this.#after !== null
  }

  /** Puts a value, or takes away what is there. */
  put(key: K, value: V | null): void {
    if (this.now.get(key) === (value ?? undefined)) return
    this.#after ??= new Map(this.#before)
    if (value === null) this.#after.delete(key)
    else this.#after.set(key, value)
  }
}

/** The record of an instance; the one there was before if that says the same. */
function make(host: HostName, offering: Offering, before: MadeRecord | undefined): MadeRecord {
  const { manifest, fitness } = offering
  if (before?.manifest === manifest && isSameRecord(before.fitness, fitness)) return before
  const { service, port, intercept, onAgentDown } = manifest
  const record: InstanceRecord = {
    service,
    host,
    id: onlyInstance,
    protocol: fitness.protocol ?? manifest.protocol,
    port,
    ...named(manifest, fitness),
    weight: fitness.warning === true ? manifest.warningWeight : manifest.weight,
    state: 'up',
    ...(intercept.length === 0 ? {} : { intercept }),
    ...(onAgentDown === 'deny' ? { onAgentDown } : {}),
    ...(fitness.plain === true ? { plain: true as const } : {}),
    ...labelsOf({
      ...manifest,
      application: applicationOf(manifest.declared),
      ...fitness.finding,
    }),
  }
  const text = encodeRecord(record)
  if (before?.text === text) return { ...before, ...offering }
  const farewell = encodeRecord({ ...record, state: 'left' })
  return { ...offering, record, text, farewell }
}

/** Whether two say the same of an instance. */
export function isSameFitness(a: Fitness, b: Fitness): boolean {
  return (
    a.healthy === b.healthy &&
    a.certified === b.certified &&
    a.isOthers === b.isOthers &&
    isSameRecord(a, b)
  )
}

/** Whether records made of two would say the same. */
function isSameRecord(a: Fitness, b: Fitness): boolean {
  const { ports: some = [] } = a
  const { ports: others = [] } = b
  return (
    a.warning === b.warning &&
    a.plain === b.plain &&
    a.protocol === b.protocol &&
    a.finding === b.finding &&
    some.length === others.length &&
    some.every(({ name, healthy, protocol }, index) => {
      const other = others[index]
      return other?.name === name && other.healthy === healthy && other.protocol === protocol
    })
  )
}

/** The named ports, those that are not to be called now marked. */
function named(
  { ports }: Pick<Manifest, 'ports'>,
  fitness: Pick<Fitness, 'ports'>,
): Pick<InstanceRecord, 'ports'> {
  if (ports.length === 0) return {}
  return {
    ports: ports.map(({ name, port, protocol }): NamedPort => {
      const known = fitness.ports?.find((one) => one.name === name)
      const isFit = known === undefined || (known.healthy && known.protocol !== null)
      const carried = known?.protocol ?? protocol
      return { name, port, protocol: carried, ...(isFit ? {} : { down: true }) }
    }),
  }
}

/** What callers should know of a protocol that is carried as bytes. */
function applicationOf(declared: Manifest['declared']): string | undefined {
  return declared === null || declared === 'http' || declared === 'tcp' ? undefined : declared
}

function withholding(fitness: Fitness, presence: HostPresence | null): Withheld | null {
  if (!fitness.certified) return 'no-certificate'
  if (fitness.isOthers === true) return 'others-port'
  if (!fitness.healthy) return 'not-healthy'
  if (fitness.protocol === null) return 'not-asked'
  return presence === null ? 'no-tunnel' : null
}
