/**
 * Owns the difference between two snapshots: what a worker that has the one needs to have the other.
 * What did not change is the same object in both, so that a difference costs no more than a look at
 * each. Pure.
 */

import type { ServiceName } from '#shared/model/names.ts'
import type { HostView, LocalInstance, ServiceView, Snapshot } from '#shared/model/snapshot.ts'

/** What became different of a record by name. */
export interface RecordChanges<T> {
  readonly changed: readonly T[]
  readonly gone: readonly string[]
}

/** See the header. Members that are absent are as they were. */
export interface SnapshotChanges extends Partial<
  Pick<Snapshot, 'local' | 'listeners' | 'external' | 'onDemand' | 'policies'>
> {
  /** Sequence of the snapshot they are made for. */
  readonly base: number
  readonly sequence: number
  readonly revision: number
  /** In place of `local`: services have one instance on a host. */
  readonly localChanges?: {
    readonly changed: readonly LocalInstance[]
    readonly gone: readonly ServiceName[]
  }
  readonly services?: RecordChanges<ServiceView>
  readonly hosts?: RecordChanges<HostView>
}

type Named = { readonly name: string }

/** What leads from one snapshot of a host to another. */
export function changesBetween(before: Snapshot, after: Snapshot): SnapshotChanges {
  const { local: _, ...changes } = withWholeLocal(before, after)
  if (before.local === after.local) return changes
  return { ...changes, localChanges: localBetween(before.local, after.local) }
}

/** The same with all instances of the host where one of them changed: what older workers understand. */
export function withWholeLocal(before: Snapshot, after: Snapshot): SnapshotChanges {
  const { sequence, revision, local, listeners, external = [], policies, onDemand = false } = after
  const services = differenceOf<ServiceView>(before.services, after.services)
  const hosts = differenceOf<HostView>(before.hosts, after.hosts)
  return {
    base: before.sequence,
    sequence,
    revision,
    ...(services === null ? {} : { services }),
    ...(hosts === null ? {} : { hosts }),
    ...(local === before.local ? {} : { local }),
    ...(listeners === before.listeners ? {} : { listeners }),
    ...(after.external === before.external ? {} : { external }),
    ...(onDemand === (before.onDemand ?? false) ? {} : { onDemand }),
    ...(policies === before.policies ? {} : { policies }),
  }
}

/** The snapshot that changes lead to; null where they were made for another one. */
export function withChanges(before: Snapshot, changes: SnapshotChanges): Snapshot | null {
  const { base, services, hosts, localChanges, ...rest } = changes
  if (base !== before.sequence) return null
  return {
    ...before,
    ...rest,
    ...(localChanges === undefined ? {} : { local: changedLocal(before.local, localChanges) }),
    services: services === undefined ? before.services : changedRecord(before.services, services),
    hosts: hosts === undefined ? before.hosts : changedRecord(before.hosts, hosts),
  }
}

function localBetween(
  before: Snapshot['local'],
  after: Snapshot['local'],
): NonNullable<SnapshotChanges['localChanges']> {
  const old = new Map(before.map((instance) => [instance.service, instance]))
  const changed: LocalInstance[] = []
  for (const instance of after) {
    if (old.get(instance.service) !== instance) changed.push(instance)
    old.delete(instance.service)
  }
  return { changed, gone: [...old.keys()] }
}

function changedLocal(
  before: Snapshot['local'],
  { changed, gone }: NonNullable<SnapshotChanges['localChanges']>,
): Snapshot['local'] {
  const instances = new Map(before.map((instance) => [instance.service, instance]))
  for (const service of gone) instances.delete(service)
  for (const instance of changed) instances.set(instance.service, instance)
  return [...instances.values()]
}

function differenceOf<T extends Named>(
  before: Readonly<Record<string, T>>,
  after: Readonly<Record<string, T>>,
): RecordChanges<T> | null {
  if (before === after) return null
  const changed: T[] = []
  let kept = 0
  for (const value of Object.values(after)) {
    const old = Object.hasOwn(before, value.name) ? before[value.name] : undefined
    if (old !== undefined) kept += 1
    if (old !== value) changed.push(value)
  }
  const names = Object.keys(before)
  const gone = kept === names.length ? [] : names.filter((name) => !Object.hasOwn(after, name))
  return { changed, gone }
}

function changedRecord<T extends Named>(
  before: Readonly<Record<string, T>>,
  { changed, gone }: RecordChanges<T>,
): Readonly<Record<string, T>> {
  const entries = new Map(Object.entries(before))
  for (const name of gone) entries.delete(name)
  for (const value of changed) entries.set(value.name, value)
  return Object.fromEntries(entries)
}
