/**
 * Owns SPIFFE ids as this mesh uses them: `spiffe://<trust domain>/<kind>/<name>`, four kinds and
 * nothing else (SPIFFE-ID §2; no percent-encoding, no dot segments, no trailing slash).
 */

import type { HostName, Parsed, ServiceName, TrustDomain } from './names.ts'
import { parseHostName, parseTrustDomain } from './names.ts'

declare const brand: unique symbol
/** A SPIFFE id of this mesh in its one canonical spelling, so that equality is string equality. */
export type SpiffeId = string & { readonly [brand]: 'SpiffeId' }

/** Who may hold an identity. */
export type IdentityKind = 'service' | 'host' | 'operator' | 'controller'

/** A SPIFFE id taken apart. */
export interface SpiffeIdParts {
  readonly trustDomain: TrustDomain
  readonly kind: IdentityKind
  readonly name: string
}

const kinds: ReadonlySet<string> = new Set<IdentityKind>([
  'service',
  'host',
  'operator',
  'controller',
])
const shape = /^spiffe:\/\/([^/]+)\/([^/]+)\/([^/]+)$/

/** Takes a SPIFFE id apart; anything but the canonical spelling is refused. */
export function splitSpiffeId(text: string): Parsed<SpiffeIdParts> {
  const bad = (why: string): Parsed<SpiffeIdParts> => ({
    ok: false,
    problem: `SPIFFE id ${JSON.stringify(text.slice(0, 300))} ${why}`,
  })
  const match = shape.exec(text)
  const [, domain = '', kind = '', name = ''] = match ?? []
  if (match === null) return bad('must read spiffe://<trust domain>/<kind>/<name>')
  const trustDomain = parseTrustDomain(domain)
  if (!trustDomain.ok) return bad(`has a bad trust domain: ${trustDomain.problem}`)
  if (!kinds.has(kind)) return bad('must be of kind service, host, operator or controller')
  if (!parseHostName(name).ok) return bad('must end in an RFC 1123 label')
  return { ok: true, value: { trustDomain: trustDomain.value, kind: kind as IdentityKind, name } }
}

/** Reads a SPIFFE id of any kind. */
export function parseSpiffeId(text: string): Parsed<SpiffeId> {
  const parts = splitSpiffeId(text)
  return parts.ok ? { ok: true, value: text as SpiffeId } : parts
}

/** The id of a service. */
export function serviceId(trustDomain: TrustDomain, name: ServiceName): SpiffeId {
  return `spiffe://${trustDomain}/service/${name}` as SpiffeId
}

/**
 * What a service outside the mesh goes by in records and metrics. No certificate is ever for it, and
 * `splitSpiffeId` refuses it.
 */
export function externalId(trustDomain: TrustDomain, name: ServiceName): SpiffeId {
  return `spiffe://${trustDomain}/external/${name}` as SpiffeId
}

/** The id of a host's own agent. */
export function hostId(trustDomain: TrustDomain, name: HostName): SpiffeId {
  return `spiffe://${trustDomain}/host/${name}` as SpiffeId
}

/** The id of a controller. */
export function controllerId(trustDomain: TrustDomain, name: HostName): SpiffeId {
  return `spiffe://${trustDomain}/controller/${name}` as SpiffeId
}

/** The id of a person or script that runs `meshctl` against a controller. */
export function operatorId(trustDomain: TrustDomain, name: HostName): SpiffeId {
  return `spiffe://${trustDomain}/operator/${name}` as SpiffeId
}

/** The DNS SAN every leaf issued to a host carries, so that a banned host's certificates are known. */
export function hostDnsName(trustDomain: TrustDomain, host: HostName): string {
  return `${host}.host.${trustDomain}`
}

/** The DNS SAN of a controller's certificate: what gRPC clients check beside the SPIFFE id. */
export function controllerDnsName(trustDomain: TrustDomain, name: HostName): string {
  return `${name}.controller.${trustDomain}`
}

/** The DNS SAN by which a store that runs for itself is known, and nobody else. */
export function storeDnsName(trustDomain: TrustDomain): string {
  return `store.${trustDomain}`
}

/** The DNS SAN by which the nodes of such a store know each other. */
export function storePeerDnsName(trustDomain: TrustDomain): string {
  return `peer.store.${trustDomain}`
}

/** The TLS server name (SNI) by which a caller's agent asks for a service on a host. */
export function serviceServerName(trustDomain: TrustDomain, service: ServiceName): string {
  return `${service}.service.${trustDomain}`
}
