/**
 * Owns the list of instances on this host over time: those of the manifests in force, and those of
 * manifests that have gone, which live on a while for callers whose view is older. Pure; times are
 * arguments, monotonic milliseconds.
 */

import type { Manifest } from '#shared/model/manifest.ts'
import { must, parseInstanceId, type ServiceName } from '#shared/model/names.ts'
import type { LocalInstance } from '#shared/model/snapshot.ts'

/** There is one instance of a service on a host; its id stays the same for ever. */
export const onlyInstance = must(parseInstanceId('1'))

/** How long an instance that has left still takes new requests, so that old views cost nothing. */
const handoverMs = 5000

/** A manifest that serves something. */
export type Serving = Manifest & { readonly port: NonNullable<Manifest['port']> }

interface Entry {
  readonly manifest: Serving
  /** When its manifest went; null while it is in force. */
  readonly leftAt: number | null
  /** As it was last answered: the same object for as long as it says the same. */
  instance: LocalInstance | null
}

/** The instances at one time. */
export interface RosterView {
  /** Everything the inbound side may still be asked for. */
  readonly local: readonly LocalInstance[]
  /** Those that are leaving, and whether they still take new calls. */
  readonly leaving: ReadonlyMap<ServiceName, { readonly takesNew: boolean }>
  /** Milliseconds until `local` changes by itself; null if it does not. */
  readonly changesInMs: number | null
}

/** See the header. */
export class Roster {
  readonly #entries = new Map<ServiceName, Entry>()

  /** A manifest is in force at `now`, in place of an earlier one of its service. */
  take(manifest: Manifest, now: number): void {
    const { service } = manifest
    if (!isServing(manifest)) {
      this.leave(service, now)
      return
    }
    const known = this.#entries.get(service)
    if (known?.manifest === manifest && known.leftAt === null) return
    const instance = sameAs(known?.instance ?? null, localInstance(manifest, false))
    this.#entries.set(service, { manifest, leftAt: null, instance })
  }

  /** No manifest of a service is in force any more at `now`. */
  leave(service: ServiceName, now: number): void {
    const known = this.#entries.get(service)
    if (known === undefined || known.leftAt !== null) return
    this.#entries.set(service, { manifest: known.manifest, leftAt: now, instance: null })
  }

  /** There is no instance of a service, nor was there one whose calls may go on. */
  drop(service: ServiceName): void {
    this.#entries.delete(service)
  }

  /** Nothing reaches an instance that has left: it goes before its time. */
  release(service: ServiceName): void {
    const entry = this.#entries.get(service)
    if (entry !== undefined && entry.leftAt !== null) this.#entries.delete(service)
  }

  /** The instances at `now`; those whose time is over are forgotten. */
  at(now: number): RosterView {
    const local: LocalInstance[] = []
    const leaving = new Map<ServiceName, { readonly takesNew: boolean }>()
    let changesInMs: number | null = null
    for (const [service, entry] of this.#entries) {
      const { manifest, leftAt } = entry
      if (leftAt === null) {
        local.push(localOf(entry, false))
        continue
      }
      const age = now - leftAt
      const handover = Math.min(handoverMs, manifest.drainMs)
      if (age >= manifest.drainMs) {
        this.#entries.delete(service)
        continue
      }
      local.push(localOf(entry, age >= handover))
      leaving.set(service, { takesNew: age < handover })
      const next = (age < handover ? handover : manifest.drainMs) - age
      changesInMs = Math.min(changesInMs ?? next, next)
    }
    return { local, leaving, changesInMs }
  }
}

function sameAs(before: LocalInstance | null, after: LocalInstance): LocalInstance {
  return before !== null && JSON.stringify(before) === JSON.stringify(after) ? before : after
}

function localOf(entry: Entry, draining: boolean): LocalInstance {
  if (entry.instance?.draining !== draining) {
    entry.instance = localInstance(entry.manifest, draining)
  }
  return entry.instance
}

/** Whether there is an instance of it. */
export function isServing(manifest: Manifest): manifest is Serving {
  return manifest.port !== undefined
}

function localInstance(manifest: Serving, draining: boolean): LocalInstance {
  const { service, protocol, address, port, drainMs, maxConcurrent, keepAliveMs } = manifest
  const limit = {
    ...(maxConcurrent === undefined ? {} : { maxConcurrent }),
    ...(keepAliveMs === undefined ? {} : { keepAliveMs }),
  }
  const ports = manifest.ports.map(({ name, port, protocol }) => ({ name, port, protocol }))
  const named = ports.length === 0 ? {} : { ports }
  return {
    service,
    id: onlyInstance,
    protocol,
    address,
    port,
    ...named,
    draining,
    drainMs,
    ...limit,
  }
}
