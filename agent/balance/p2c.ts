/**
 * Owns the power of two choices: of two instances drawn by weight, take the one with less under
 * way (Mitzenmacher 2001). Constant cost however many instances there are, unless most are ejected.
 */

import type { Endpoint } from './endpoint.ts'

/** Uniform draws in [0, 1). */
export interface Fractions {
  fraction(): number
}

/** An immutable set of endpoints, prepared for drawing by weight. */
export class P2c<E extends Endpoint> {
  readonly endpoints: readonly E[]
  /** Running sums of weights; null while all weights are equal. */
  readonly #sums: Float64Array | null

  constructor(endpoints: readonly E[]) {
    this.endpoints = endpoints
    const first = endpoints[0]?.weight
    this.#sums = endpoints.every((endpoint) => endpoint.weight === first) ? null : sums(endpoints)
  }

  /**
   * Picks an endpoint, or null when there is none.
   * @param now monotonic milliseconds, to leave out who is ejected or lost and spare who is new
   * @param avoid endpoints that have just failed; one is picked again only when all have
   */
  pick(now: number, random: Fractions, avoid: readonly E[]): E | null {
    const { endpoints } = this
    if (endpoints.length <= 1) return endpoints[0] ?? null
    const a = this.#draw(random)
    const b = this.#draw(random)
    const aUsable = a.isUsable(now) && !avoid.includes(a)
    const bUsable = b.isUsable(now) && !avoid.includes(b)
    if (aUsable && bUsable) {
      if (a.warmUntil > now && random.fraction() >= a.warmth(now)) return b
      if (b.warmUntil > now && random.fraction() >= b.warmth(now)) return a
      return a.active <= b.active ? a : b
    }
    if (aUsable) return a
    if (bUsable) return b
    return this.#scan(now, random, avoid)
  }

  #draw(random: Fractions): E {
    const { endpoints } = this
    const sums = this.#sums
    if (sums === null) return endpoints[Math.floor(random.fraction() * endpoints.length)] as E
    const target = random.fraction() * (sums[sums.length - 1] as number)
    let low = 0
    let high = sums.length - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if ((sums[middle] as number) > target) high = middle
      else low = middle + 1
    }
    return endpoints[low] as E
  }

  #scan(now: number, random: Fractions, avoid: readonly E[]): E {
    const { endpoints } = this
    const from = Math.floor(random.fraction() * endpoints.length)
    let fallback: E | null = null
    for (let i = 0; i < endpoints.length; i++) {
      const endpoint = endpoints[(from + i) % endpoints.length] as E
      if (avoid.includes(endpoint)) continue
      if (endpoint.isUsable(now)) return endpoint
      fallback ??= endpoint
    }
    return fallback ?? (endpoints[from] as E)
  }
}

function sums(endpoints: readonly Endpoint[]): Float64Array {
  const result = new Float64Array(endpoints.length)
  let sum = 0
  for (const [i, endpoint] of endpoints.entries()) {
    sum += endpoint.weight
    result[i] = sum
  }
  return result
}
