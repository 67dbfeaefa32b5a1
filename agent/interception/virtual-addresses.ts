/**
 * Owns which virtual IP stands for which service on this host. A name's own hash says where to look
 * first, so that hosts mostly agree and a lost file changes little; an address that was given out
 * is not given to another service for 30 days. Times are arguments; the file is the caller's matter.
 */

import { createHash } from 'node:crypto'

/** A service's addresses. */
export interface VirtualAddress {
  readonly v4: string
  /** Null where the host has no IPv6. */
  readonly v6: string | null
}

/** An address that was given out, as it is kept. */
export interface Grant {
  readonly service: string
  /** 1 to 65534: the address within its range. */
  readonly index: number
  /** When the service was last known, milliseconds since the epoch. */
  readonly seenMs: number
}

const mostAddresses = 65_534
const quarantineMs = 30 * 86_400_000

/** See the header. */
export class VirtualAddresses {
  readonly #grants = new Map<string, Grant>()
  readonly #holders = new Map<number, string>()

  /** @param grants - what an earlier run kept; of two for one address the first counts */
  constructor(grants: Iterable<Grant> = []) {
    for (const grant of grants) {
      if (!this.#holders.has(grant.index) && !this.#grants.has(grant.service)) this.#give(grant)
    }
  }

  /** What is to be kept. */
  get grants(): readonly Grant[] {
    return [...this.#grants.values()]
  }

  /** The service's address; null when all are taken. The service is known to be there now. */
  indexOf(service: string, nowMs: number): number | null {
    const known = this.#grants.get(service)
    const index = known?.index ?? this.#free(service, nowMs)
    if (index !== null) this.#give({ service, index, seenMs: Math.max(nowMs, known?.seenMs ?? 0) })
    return index
  }

  #free(service: string, nowMs: number): number | null {
    const first = createHash('sha256').update(service).digest().readUInt32BE() % mostAddresses
    for (let step = 0; step < mostAddresses; step++) {
      const index = ((first + step) % mostAddresses) + 1
      const holder = this.#holders.get(index)
      if (holder === undefined) return index
      const grant = this.#grants.get(holder)
      if (grant !== undefined && nowMs - grant.seenMs < quarantineMs) continue
      this.#grants.delete(holder)
      return index
    }
    return null
  }

  #give(grant: Grant): void {
    this.#grants.set(grant.service, grant)
    this.#holders.set(grant.index, grant.service)
  }
}

/** The IPv6 range of a mesh's virtual IPs: a unique local prefix (RFC 4193) made of its name. */
export function virtualRange6Of(trustDomain: string): string {
  const digest = createHash('sha256').update(`virtual addresses of ${trustDomain}`).digest('hex')
  return `fd${digest.slice(0, 2)}:${word(digest.slice(2, 6))}:${word(digest.slice(6, 10))}::/48`
}

/** The addresses at an index. */
export function addressAt(index: number, range6: string | null): VirtualAddress {
  const v4 = `240.240.${index >> 8}.${index & 255}`
  const v6 = range6 === null ? null : range6.replace('/48', index.toString(16))
  return { v4, v6 }
}

function word(hex: string): string {
  return Number.parseInt(hex, 16).toString(16)
}
