/** Owns snapshots for tests, made from as little as a test wants to say. */

import {
  must,
  parseHostName,
  parseInstanceId,
  parsePort,
  parsePortName,
  parseServiceName,
  parseTrustDomain,
} from '#shared/model/names.ts'
import type { ExternalView } from '#shared/model/external.ts'
import type { NamedPort, Protocol } from '#shared/model/records.ts'
import { portsTogether } from '#shared/model/service-targets.ts'
import type { Policy } from '#shared/model/policy.ts'
import type { LocalInstance, ServiceView, Snapshot } from '#shared/model/snapshot.ts'
import { servicePolicyOf } from '#shared/policy/service-policy.ts'

/** One instance, as a test says it. */
export interface InstanceWish {
  readonly service: string
  readonly host: string
  /** @default 8080 */
  readonly port?: number
  /** Ports by name. @default none */
  readonly ports?: Readonly<Record<string, number | readonly [number, Protocol]>>
  /** @default 100 */
  readonly weight?: number
  /** @default 'http' */
  readonly protocol?: Protocol
  /** Where a local one listens. @default '127.0.0.1' */
  readonly address?: string
  /** @default false */
  readonly draining?: boolean
  readonly maxConcurrent?: number
}

/** The host whose snapshots these are. */
export const self = must(parseHostName('self'))
export const trustDomain = must(parseTrustDomain('mesh.internal'))

/** A snapshot with these instances; every host but those `without` is present, all policies count. */
export function snapshotOf(
  wishes: readonly InstanceWish[],
  without: readonly string[] = [],
  policies: readonly Policy[] = [],
): Snapshot {
  const services: [string, ServiceView][] = []
  for (const [name, group] of Map.groupBy(wishes, ({ service }) => service)) {
    const instances = group.map(({ host, port = 8080, ports, weight = 100 }) => ({
      host: must(parseHostName(host)),
      id: must(parseInstanceId('1')),
      port: must(parsePort(port)),
      ...namedPorts(ports),
      weight,
    }))
    const protocol = group[0]?.protocol ?? 'http'
    const ports = portsTogether(instances.map((one) => one.ports))
    const named = ports.length === 0 ? {} : { ports }
    services.push([name, { name: must(parseServiceName(name)), protocol, ...named, instances }])
  }
  const far = new Set(wishes.map(({ host }) => host).filter((host) => host !== self))
  return {
    revision: 1,
    sequence: 1,
    trustDomain,
    host: self,
    services: Object.fromEntries(services),
    hosts: Object.fromEntries(
      [...far]
        .filter((host) => !without.includes(host))
        .map((host) => [
          host,
          {
            name: must(parseHostName(host)),
            address: '10.0.0.2',
            tunnelPort: must(parsePort(15008)),
          },
        ]),
    ),
    local: wishes.filter(({ host }) => host === self).map(localOf),
    listeners: [],
    policies: Object.fromEntries(
      services.map(([name, view]) => [name, servicePolicyOf(view.name, policies)]),
    ),
  }
}

function namedPorts(ports: InstanceWish['ports']): { readonly ports?: readonly NamedPort[] } {
  if (ports === undefined) return {}
  return {
    ports: Object.entries(ports).map(([name, given]) => {
      const [port, protocol] = typeof given === 'number' ? [given, 'http' as const] : given
      return { name: must(parsePortName(name)), port: must(parsePort(port)), protocol }
    }),
  }
}

function localOf(wish: InstanceWish): LocalInstance {
  const { service, port = 8080, protocol = 'http', address = '127.0.0.1', draining = false } = wish
  const limit = wish.maxConcurrent === undefined ? {} : { maxConcurrent: wish.maxConcurrent }
  return {
    ...limit,
    service: must(parseServiceName(service)),
    id: must(parseInstanceId('1')),
    protocol,
    address,
    port: must(parsePort(port)),
    ...namedPorts(wish.ports),
    draining,
    drainMs: 1000,
  }
}

/** A service outside the mesh, at these addresses. */
export function externalOf(
  service: string,
  addresses: readonly string[],
  more: Partial<ExternalView> = {},
): ExternalView {
  return {
    name: must(parseServiceName(service)),
    protocol: 'tcp',
    port: must(parsePort(443)),
    endpoints: addresses.map((address) => ({
      id: must(parseInstanceId(`at-${address.replaceAll(/[^0-9a-z]/g, '-')}`)),
      address,
      said: address,
    })),
    tls: null,
    names: [`${service}.example.com`],
    connectTimeoutMs: 3000,
    intercept: [],
    onAgentDown: 'direct',
    ...more,
  }
}
