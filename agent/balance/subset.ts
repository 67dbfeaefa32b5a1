/**
 * Owns which hosts of a large service a caller uses: at most so many, by rendezvous hashing, so that
 * callers spread over all hosts, each keeps its own choice, and a host that comes or goes changes one
 * place of a subset at most. Pure.
 */

import { rendezvous } from '#shared/model/rendezvous.ts'

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
  return new Set(rendezvous(`${caller} ${service} `, hosts, most))
}
