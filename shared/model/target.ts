/**
 * Owns the target: what callers call, a service or one of its named ports. Its name is `orders`, or
 * `admin.orders`; with `.mesh` it stands in DNS and in requests.
 */

import {
  parsePortName,
  parseServiceName,
  type Parsed,
  type PortName,
  type ServiceName,
} from './names.ts'

declare const brand: unique symbol

/** The name of a target; that of a service alone means its main port. */
export type TargetName = ServiceName | (string & { readonly [brand]: 'TargetName' })

/** See the header. */
export interface Target {
  readonly service: ServiceName
  /** Null: the main port. */
  readonly portName: PortName | null
}

/** The agent itself, for programs of its own host: `agent.mesh`. No service may be called so. */
export const agentTarget = 'agent' as TargetName

/** Names that are not for services, and what they are. */
export const reservedNames: Readonly<Record<string, string>> = {
  agent: 'agent.mesh is the API of each host’s own agent',
  ns: 'ns.mesh is the name server of the mesh',
}

/** What a target is called. */
export function targetName(service: ServiceName, portName: PortName | null): TargetName {
  return portName === null ? service : (`${portName}.${service}` as TargetName)
}

/** Reads `orders` or `admin.orders`. */
export function parseTarget(text: string): Parsed<Target> {
  const dot = text.indexOf('.')
  const service = parseServiceName(text.slice(dot + 1))
  if (!service.ok) return service
  if (dot < 0) return { ok: true, value: { service: service.value, portName: null } }
  const portName = parsePortName(text.slice(0, dot))
  if (!portName.ok) return portName
  return { ok: true, value: { service: service.value, portName: portName.value } }
}

/** The service a target belongs to. */
export function serviceOfTarget(target: TargetName): ServiceName {
  return target.slice(target.indexOf('.') + 1) as ServiceName
}
