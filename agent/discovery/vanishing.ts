/**
 * Owns the guard against wrong disappearance: of what vanished from the store unannounced, what is
 * kept a while because the store, or a host's way to it, may be what failed. A host that vanished
 * whole is kept for as long as it answers. Pure; times are arguments, monotonic milliseconds.
 */

import type { HostName } from '#shared/model/names.ts'
import { decodeInstance } from '#shared/schema/records.ts'
import { parseMeshKey, presenceKey } from '#shared/store/keys.ts'

/**
 * How long a vanished key is kept to see whether others follow, milliseconds: leases that lapse
 * together do so over a second or two. Its host was silent for a whole lease before.
 */
const momentMs = 2000
/** How long keys are waited for when many are missing: a lease's life and a slow return. */
const stormMs = 20_000
/** How soon a host that may still be there is judged again. */
const againMs = 500

/** One change of the store's view. */
export interface Vanishing {
  /** Keys that are gone, with their last value. */
  readonly removed: ReadonlyMap<string, string>
  /** Whether the store is told of after an absence, when anything may be missing. */
  readonly isLate: boolean
  /** How many hosts are present, those of kept keys among them. */
  readonly hosts: number
}

/** See the header. */
export class VanishingGuard {
  /** When each kept key is due, and whose it is. */
  readonly #kept = new Map<string, { dueAt: number; readonly host: HostName }>()

  /** Milliseconds until the first kept key is due; null while none is kept. */
  dueInMs(now: number): number | null {
    let due: number | null = null
    for (const { dueAt } of this.#kept.values()) due = Math.min(due ?? dueAt, dueAt)
    return due === null ? null : Math.max(0, due - now)
  }

  /** The hosts that vanished whole: their presence is kept too. */
  get lostHosts(): ReadonlySet<HostName> {
    const hosts = new Set<HostName>()
    for (const { host } of this.#kept.values()) {
      if (this.#kept.has(presenceKey(host))) hosts.add(host)
    }
    return hosts
  }

  /** The key is there again. */
  returned(key: string): void {
    this.#kept.delete(key)
  }

  /** Takes in what vanished. Answers the keys to drop at once and whether it is a storm. */
  vanish(
    { removed, isLate, hosts }: Vanishing,
    now: number,
  ): { readonly dropped: readonly string[]; readonly isStorm: boolean } {
    const dropped: string[] = []
    const dueAt = now + (isLate ? stormMs : momentMs)
    let isNews = false
    for (const [key, value] of removed) {
      const host = ownerOf(key)
      if (host === null) continue
      if (isFarewell(value)) {
        dropped.push(key)
        continue
      }
      this.#kept.set(key, { dueAt, host })
      isNews = true
    }
    const silent = new Set(Array.from(this.#kept.values(), ({ host }) => host)).size
    const isStorm = isNews && silent >= 2 && silent * 2 >= hosts
    if (isStorm) for (const kept of this.#kept.values()) kept.dueAt = now + stormMs
    return { dropped, isStorm }
  }

  /** The keys nobody brought back in time; those of a host that vanished whole once it is silent. */
  expire(now: number, isSilent: (host: HostName) => boolean): readonly string[] {
    const lost = this.lostHosts
    const expired: string[] = []
    for (const [key, kept] of this.#kept) {
      if (kept.dueAt > now) continue
      if (lost.has(kept.host) && !isSilent(kept.host)) kept.dueAt = now + againMs
      else expired.push(key)
    }
    for (const key of expired) this.#kept.delete(key)
    return expired
  }
}

function isFarewell(value: string): boolean {
  const record = decodeInstance(value)
  return record.ok && record.value.state === 'left'
}

/** Which host writes under a key; null: none, or nothing that is called. */
function ownerOf(key: string): HostName | null {
  const at = parseMeshKey(key)
  if (!at.ok) return null
  return at.value.kind === 'instance' || at.value.kind === 'presence' ? at.value.host : null
}
