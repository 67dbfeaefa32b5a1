/**
 * Owns which hosts of a large service a caller uses: at most so many, by rendezvous hashing (Thaler
 * and Ravishankar 1998), so that callers spread over all hosts, each keeps its own choice, and a host
 * that comes or goes changes one place of a subset at most. Pure.
 */

/** Most hosts a caller's host has tunnels to, for each service. */
export const mostHosts = 16

/**
 * The hosts that `caller` uses of a service, or null for all of them.
 * @param hosts names, each once
 */
export function subsetOf(
  caller: string,
  service: string,
  hosts: readonly string[],
  most = mostHosts,
): ReadonlySet<string> | null {
  if (hosts.length <= most) return null
  const seed = hash(`${caller} ${service} `, 0x811c9dc5)
  const scored = hosts.map((host) => ({ host, score: mix(hash(host, seed)) }))
  scored.sort((a, b) => b.score - a.score || (a.host < b.host ? -1 : 1))
  return new Set(scored.slice(0, most).map(({ host }) => host))
}

/** FNV-1a. */
function hash(text: string, seed: number): number {
  let state = seed
  for (let i = 0; i < text.length; i++) {
    state = Math.imul(state ^ text.charCodeAt(i), 0x01000193)
  }
  return state
}

/** MurmurHash3's last step: similar names get scores that have nothing in common. */
function mix(value: number): number {
  let x = value ^ (value >>> 16)
  x = Math.imul(x, 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}
