/**
 * Owns what a manifest of a local user may say beyond what the schema allows: services of his own
 * only, on loopback only, and no ports that are the system's. Pure.
 */

import type { Manifest } from '#shared/model/manifest.ts'
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
  const { owner, service, address, upstreams, run, intercept, external } = manifest
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
