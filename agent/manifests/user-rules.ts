/**
 * Owns what a manifest of a local user may say beyond what the schema allows: services of his own
 * only, on loopback only, checked at their own ports, and no ports that are the system's. Pure.
 */

import { servedPorts, type Manifest } from '#shared/model/manifest.ts'
import { targetName } from '#shared/model/target.ts'
import { coversService } from '#shared/model/service-globs.ts'
import type { Report } from '#shared/schema/problem.ts'

/** The first port that any local user may listen on. */
const firstUserPort = 1024

/** Globs of services by local user, beside the service of his own name. */
export type UserServices = Readonly<Record<string, readonly string[]>>

/** One thing that the manifest may not say, and where it says it. */
export interface UserFault {
  readonly pointer: string
  readonly fault: Parameters<Report>[1]
}

/** What is wrong with a manifest because of whose it is; the administrator's may say everything. */
export function userFaults(manifest: Manifest, services: UserServices): readonly UserFault[] {
  const { owner, service, address, health, upstreams, run, intercept, external } = manifest
  if (owner === undefined) return []
  const faults: UserFault[] = []
  const granted = Object.hasOwn(services, owner) ? (services[owner] ?? []) : []
  if (service !== owner && !coversService(granted, service)) {
    faults.push({
      pointer: '/name',
      fault: {
        rule: 'not-yours',
        message: `user ${owner} may not register service "${service}"`,
        hint: `only "${owner}" and what "users" in agent.json grants; or let the administrator drop the file`,
      },
    })
  }
  if (!isLoopback(address)) {
    faults.push({
      pointer: '/address',
      fault: {
        rule: 'not-loopback',
        message: `address ${address} is not a loopback address, and user ${owner} may name no other`,
        hint: 'leave it out to use 127.0.0.1, or let the administrator drop the file',
      },
    })
  }
  if (run !== undefined && (run.kind === 'unit' || run.user !== owner)) {
    const whom = run.kind === 'unit' ? `unit ${run.unit}` : `user ${run.user}`
    faults.push({
      pointer: `/run/${run.kind}`,
      fault: {
        rule: 'not-yours',
        message: `user ${owner} may not say who ${whom} is`,
        hint: `leave it out: the service is known by user ${owner}`,
      },
    })
  }
  if (intercept.length > 0) {
    faults.push({
      pointer: '/intercept',
      fault: {
        rule: 'not-yours',
        message: `user ${owner} may not capture connections of others to real addresses`,
        hint: 'let the administrator drop the file',
      },
    })
  }
  if (external !== undefined) {
    faults.push({
      pointer: '/external',
      fault: {
        rule: 'not-yours',
        message: `user ${owner} may not say where a service outside the mesh is`,
        hint: 'let the administrator drop the file',
      },
    })
  }
  const served = new Set<number>(servedPorts(manifest).map(({ port }) => port))
  for (const [index, check] of health.entries()) {
    // The agent passes locks: what it asks for a user, he might not ask himself.
    if (!('port' in check) || check.port === undefined || served.has(check.port)) continue
    faults.push({
      pointer: health.length === 1 ? '/health/port' : `/health/${index}/port`,
      fault: {
        rule: 'not-yours',
        message: `port ${check.port} is none of the service’s, and user ${owner} may have no other checked`,
        hint: 'give it a name in "ports", if the service listens there, or let the administrator drop the file',
      },
    })
  }
  for (const { service: upstream, portName = null, port } of upstreams) {
    if (port >= firstUserPort) continue
    faults.push({
      pointer: `/upstreams/${targetName(upstream, portName)}`,
      fault: {
        rule: 'system-port',
        message: `port ${port} is the system’s, and user ${owner} may not take it`,
        hint: `choose a free port from ${firstUserPort} on`,
      },
    })
  }
  return faults
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}
