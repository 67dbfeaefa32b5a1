/**
 * Owns the layout of the store: every key the mesh reads or writes is built and read here. Hosts
 * may read everything under `meshPrefix`; `controllerPrefix` is for controllers alone.
 */

import type { HostName, InstanceId, Parsed, ServiceName } from '#shared/model/names.ts'
import type { RootName } from '#shared/model/trust.ts'
import { parseHostName, parseInstanceId, parseServiceName } from '#shared/model/names.ts'

declare const brand: unique symbol

/** A key of the mesh's layout. */
export type StoreKey = string & { readonly [brand]: 'StoreKey' }

/** What every host reads and watches. */
export const meshPrefix = '/mesh/v1/'
/** What only controllers and operators read: tokens, journal. */
export const controllerPrefix = '/mesh-controller/v1/'
/** Trust bundle, bans and policies, signed by controllers. */
export const trustPrefix = `${meshPrefix}trust/`
/** What hosts report of the trust they act on; only controllers read it. */
export const trustReportsPrefix = '/mesh-reports/v1/trust/'
/** Every instance of every service. */
export const instancesPrefix = `${meshPrefix}instances/`
/** Every host's presence. */
export const presencePrefix = `${meshPrefix}presence/`
/** Every host's record. */
export const hostsPrefix = `${meshPrefix}hosts/`
/** Where every controller is reached. */
export const controllersPrefix = `${meshPrefix}controllers/`
/** Which controller leads. */
export const leaderKey = `${controllerPrefix}leader` as StoreKey
/** What controllers tell each other while the root is replaced. */
export const rotationPrefix = `${controllerPrefix}rotation/`
/** Which trust bundle each controller acts on. */
export const actingPrefix = `${rotationPrefix}acting/`

/** Every join token. */
export const tokensPrefix = `${controllerPrefix}tokens/`

/** Every certificate that was issued and has not ended long ago. */
export const issuedPrefix = `${controllerPrefix}issued/`

/** A key under `meshPrefix`, taken apart. */
export type MeshKey =
  | {
      readonly kind: 'instance'
      readonly service: ServiceName
      readonly host: HostName
      readonly id: InstanceId
    }
  | { readonly kind: 'presence'; readonly host: HostName }
  | { readonly kind: 'host'; readonly host: HostName }
  /** The trust bundle, the bans or the policies. */
  | { readonly kind: 'trust' }
  /** Under the prefix, but of a kind this version does not know: another version's, left alone. */
  | { readonly kind: 'unknown' }

/** Where a host publishes one running copy of a service. */
export function instanceKey(service: ServiceName, host: HostName, id: InstanceId): StoreKey {
  return `${instancesPrefix}${service}/${host}/${id}` as StoreKey
}

/** What every instance of a service stands under, whichever its host. */
export function instancesOfService(service: ServiceName): string {
  return `${instancesPrefix}${service}/`
}

/** What every instance of a service on a host stands under. */
export function instancesOf(service: ServiceName, host: HostName): string {
  return `${instancesOfService(service)}${host}/`
}

/** Where a host publishes how its agent is reached. */
export function presenceKey(host: HostName): StoreKey {
  return `${presencePrefix}${host}` as StoreKey
}

/** Where a controller writes what a host may do. */
export function hostKey(host: HostName): StoreKey {
  return `${hostsPrefix}${host}` as StoreKey
}

/** Where controllers publish the trust bundle. */
export const bundleKey = `${trustPrefix}bundle` as StoreKey

/** Where controllers publish who is banned. */
export const bansKey = `${trustPrefix}bans` as StoreKey

/** Where controllers publish the policies that hold on every host. */
export const policiesKey = `${trustPrefix}policies` as StoreKey

/** Where a host reports which trust it acts on. */
export function trustReportKey(host: HostName): StoreKey {
  return `${trustReportsPrefix}${host}` as StoreKey
}

/** Whose trust report stands under a key; null where it is none. */
export function parseTrustReportKey(key: string): HostName | null {
  if (!key.startsWith(trustReportsPrefix)) return null
  const host = parseHostName(key.slice(trustReportsPrefix.length))
  return host.ok ? host.value : null
}

/** Where a controller says where it is reached, under its lease. */
export function controllerKey(name: string): StoreKey {
  return `${controllersPrefix}${name}` as StoreKey
}

/** Where a controller keeps a join token, by the token's public id. */
export function tokenKey(id: string): StoreKey {
  return `${tokensPrefix}${id}` as StoreKey
}

/** Where a controller stands while the root is replaced. */
export function actingKey(controller: HostName): StoreKey {
  return `${actingPrefix}${controller}` as StoreKey
}

/** Where controllers ask for issuing certificates under a root, each under its name. */
export function requestsPrefix(root: RootName): string {
  return `${rotationPrefix}requests/${root}/`
}

/** Where a controller asks for its issuing certificate under a root. */
export function requestKey(root: RootName, controller: HostName): StoreKey {
  return `${requestsPrefix(root)}${controller}` as StoreKey
}

/** Where the answer stands. */
export function intermediateKey(root: RootName, controller: HostName): StoreKey {
  return `${rotationPrefix}certificates/${root}/${controller}` as StoreKey
}

/** Where controllers remember a certificate; in the order in which certificates end. */
export function issuedKey(notAfterMs: number, serial: string): StoreKey {
  return `${issuedPrefix}${new Date(notAfterMs).toISOString()}/${serial}` as StoreKey
}

/** Takes a key under `meshPrefix` apart. */
export function parseMeshKey(key: string): Parsed<MeshKey> {
  if (!key.startsWith(meshPrefix)) {
    return { ok: false, problem: `key ${JSON.stringify(key)} is not under ${meshPrefix}` }
  }
  const [kind, ...names] = key.slice(meshPrefix.length).split('/')
  if (kind === 'instances') return parseInstance(key, names)
  if (kind === 'presence' || kind === 'hosts') {
    const [host, ...rest] = names
    if (host === undefined || rest.length > 0) return misshapen(key, `${kind}/<host>`)
    const parsed = parseHostName(host)
    if (!parsed.ok) return inKey(key, parsed.problem)
    return {
      ok: true,
      value: { kind: kind === 'hosts' ? 'host' : 'presence', host: parsed.value },
    }
  }
  return { ok: true, value: { kind: key.startsWith(trustPrefix) ? 'trust' : 'unknown' } }
}

function parseInstance(key: string, names: readonly string[]): Parsed<MeshKey> {
  const [service, host, id, ...rest] = names
  if (service === undefined || host === undefined || id === undefined || rest.length > 0) {
    return misshapen(key, 'instances/<service>/<host>/<id>')
  }
  const parsed = {
    service: parseServiceName(service),
    host: parseHostName(host),
    id: parseInstanceId(id),
  }
  if (!parsed.service.ok) return inKey(key, parsed.service.problem)
  if (!parsed.host.ok) return inKey(key, parsed.host.problem)
  if (!parsed.id.ok) return inKey(key, parsed.id.problem)
  return {
    ok: true,
    value: {
      kind: 'instance',
      service: parsed.service.value,
      host: parsed.host.value,
      id: parsed.id.value,
    },
  }
}

function misshapen(key: string, shape: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem: `key ${JSON.stringify(key)} must read ${meshPrefix}${shape}` }
}

function inKey(key: string, problem: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem: `key ${JSON.stringify(key)}: ${problem}` }
}
