/**
 * Owns the controller's boot config: its keys, defaults and rules beyond the schema. Read once,
 * frozen, handed on in slices; nothing here changes while the controller runs.
 */

import { isIP } from 'node:net'
import type { LogLevel } from '#shared/logging/logger.ts'
import { parseHostName, parseTrustDomain } from '#shared/model/names.ts'
import type { HostName, Parsed, TrustDomain } from '#shared/model/names.ts'
import type { HostPort } from '#shared/rpc/host-port.ts'
import { parseHostPort } from '#shared/rpc/host-port.ts'
import type { ConfigReading, ConfigSources } from '#shared/schema/config.ts'
import { readConfig } from '#shared/schema/config.ts'
import type { Report } from '#shared/schema/problem.ts'
import { Type } from '#shared/schema/type.ts'

/** What the variables of the controller's config start with. */
export const controllerVariables = 'MESH_CONTROLLER_'

/** Where the mesh's store is. */
export type StoreChoice =
  | { readonly kind: 'embedded' }
  /** Base URLs, `http://host:port` or `https://host:port`, all of one kind. */
  | { readonly kind: 'etcd'; readonly endpoints: readonly string[] }

/** The controller's boot config. */
export interface ControllerConfig {
  readonly name: HostName
  readonly trustDomain: TrustDomain
  /** Host name or IP address agents and operators reach this controller at. */
  readonly advertise: string
  readonly listen: {
    readonly api: HostPort
    readonly store: HostPort
    readonly metrics: HostPort
  }
  readonly store: StoreChoice
  readonly state: string
  readonly leafTtlMs: number
  readonly log: { readonly level: LogLevel }
}

const closed = { additionalProperties: false }
const text = (maxLength: number, description: string, preset: string) =>
  Type.String({ minLength: 1, maxLength, description, default: preset })

/** JSON Schema of the controller's config; checked against `docs/configuration.md` by a test. */
export const controllerConfigSchema = Type.Object(
  {
    $schema: Type.Optional(
      Type.String({ maxLength: 1024, description: 'where editors find this schema' }),
    ),
    name: Type.Optional(
      Type.String({
        maxLength: 63,
        description: 'name of this controller; default: the host name up to the first dot',
      }),
    ),
    trustDomain: text(
      253,
      'trust domain of the mesh; fixed once the controller has started',
      'mesh.internal',
    ),
    advertise: Type.Optional(
      Type.String({
        maxLength: 253,
        description: 'name or IP address agents reach this controller at; default: the host name',
      }),
    ),
    listen: Type.Object(
      {
        api: text(60, 'where agents and operators connect, "address:port"', '0.0.0.0:15010'),
        store: text(60, 'where the embedded store is served, "address:port"', '0.0.0.0:15379'),
        metrics: text(60, 'where metrics are read, "address:port"', '127.0.0.1:15014'),
      },
      closed,
    ),
    store: text(
      2000,
      '"embedded", or the URLs of an etcd cluster, "https://host:port", with commas between',
      'embedded',
    ),
    storeInsecure: Type.Boolean({
      description: 'allow an etcd that is not on this host without TLS',
      default: false,
    }),
    state: text(4096, 'directory of the CA and the embedded store', '/var/lib/mesh/controller'),
    leafTtlSeconds: Type.Integer({
      minimum: 20,
      maximum: 30 * 86_400,
      description: 'lifetime of the certificates of hosts and services, in seconds',
      default: 86_400,
    }),
    log: Type.Object(
      {
        level: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'], {
          description: 'least severe lines that are logged',
          default: 'info',
        }),
      },
      closed,
    ),
  },
  { ...closed, $id: 'urn:hostmesh:controller-config:1', title: 'Hostmesh controller config' },
)

/** Reads the controller's config from its sources, reporting every fault together. */
export function readControllerConfig(
  sources: Omit<ConfigSources, 'prefix'>,
  machine: { readonly hostname: string },
): ConfigReading<ControllerConfig> {
  const all = { ...sources, prefix: controllerVariables }
  return readConfig(controllerConfigSchema, all, (raw, report): ControllerConfig => {
    const hostname = machine.hostname.toLowerCase()
    const take = <T>(pointer: string, parsed: Parsed<T>, instead: T): T => {
      if (parsed.ok) return parsed.value
      report(pointer, { rule: 'bad-value', message: parsed.problem })
      return instead
    }
    return {
      name: take('/name', parseHostName(raw.name ?? hostname.split('.')[0] ?? ''), '' as HostName),
      trustDomain: take('/trustDomain', parseTrustDomain(raw.trustDomain), '' as TrustDomain),
      advertise: take('/advertise', parseAdvertised(raw.advertise ?? hostname), ''),
      listen: {
        api: listenAddress(raw.listen.api, '/listen/api', report),
        store: listenAddress(raw.listen.store, '/listen/store', report),
        metrics: listenAddress(raw.listen.metrics, '/listen/metrics', report),
      },
      store: take('/store', parseStore(raw.store, raw.storeInsecure), { kind: 'embedded' }),
      state: absolute(raw.state, '/state', report),
      leafTtlMs: raw.leafTtlSeconds * 1000,
      log: { level: raw.log.level },
    }
  })
}

function parseAdvertised(value: string): Parsed<string> {
  const named = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/i.test(value)
  return (named || isIP(value) !== 0) && value !== '0.0.0.0' && value !== '::'
    ? { ok: true, value }
    : {
        ok: false,
        problem: `advertise ${JSON.stringify(value)} must be a host name or IP address, without a port`,
      }
}

/** Reads where a store is. */
export function parseStore(value: string, insecure: boolean): Parsed<StoreChoice> {
  if (value === 'embedded') return { ok: true, value: { kind: 'embedded' } }
  const endpoints: string[] = []
  for (const part of value.split(',')) {
    const endpoint = parseEndpoint(part.trim(), insecure)
    if (!endpoint.ok) return endpoint
    endpoints.push(endpoint.value)
  }
  if (new Set(endpoints.map((endpoint) => URL.parse(endpoint)?.protocol)).size > 1) {
    return { ok: false, problem: `store ${value} mixes http and https` }
  }
  return { ok: true, value: { kind: 'etcd', endpoints } }
}

function parseEndpoint(value: string, insecure: boolean): Parsed<string> {
  const url = URL.parse(value)
  const known = url?.protocol === 'http:' || url?.protocol === 'https:'
  if (!known || url.port === '' || `${url.protocol}//${url.host}` !== value) {
    return {
      ok: false,
      problem: `store ${JSON.stringify(value)} must be "embedded" or read https://host:port`,
    }
  }
  if (url.protocol === 'https:') return { ok: true, value }
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (!insecure && host !== 'localhost' && host !== '::1' && !host.startsWith('127.')) {
    return {
      ok: false,
      problem: `store ${value} is on another host and without TLS; set storeInsecure to accept that`,
    }
  }
  return { ok: true, value }
}

function listenAddress(value: string, pointer: string, report: Report): HostPort {
  const parsed = parseHostPort(value)
  if (parsed.ok && isIP(parsed.value.host) !== 0) return parsed.value
  const name = pointer.slice(1).replace('/', '.')
  report(pointer, {
    rule: 'not-an-address',
    message: `${name} ${JSON.stringify(value)} must read <IP address>:<port>`,
    hint: 'IPv6 stands in brackets: "[::1]:15010"',
  })
  return { host: '', port: 0 }
}

function absolute(path: string, pointer: string, report: Report): string {
  if (!path.startsWith('/')) {
    report(pointer, {
      rule: 'relative-path',
      message: `${pointer.slice(1)} ${JSON.stringify(path)} must be an absolute path`,
    })
  }
  return path
}
