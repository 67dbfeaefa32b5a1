/**
 * Owns the names of the mesh: one brand and one parse function each. Nothing else may mint them.
 * Services, hosts and controllers are RFC 1123 labels, because they stand in DNS names, SPIFFE
 * paths and store keys alike and must mean the same in all three.
 */

declare const brand: unique symbol
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name }

/** A service's name, as in `orders.mesh`. */
export type ServiceName = Branded<string, 'ServiceName'>
/** A host's name in the mesh; it need not be its DNS name. */
export type HostName = Branded<string, 'HostName'>
/** Names one running copy of a service on its host. */
export type InstanceId = Branded<string, 'InstanceId'>
/** The SPIFFE trust domain, lower case (SPIFFE-ID §2.1). */
export type TrustDomain = Branded<string, 'TrustDomain'>
/** Names one port of a service that has several, as in `admin.orders`. */
export type PortName = Branded<string, 'PortName'>
/** A TCP port, 1 to 65535. */
export type Port = Branded<number, 'Port'>

/** What parsing answers: the value, or what is wrong with it in words fit for an operator. */
export type Parsed<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string }

const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
const labelRule =
  'must be 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends'

function parseLabel<T>(what: string, text: string): Parsed<T> {
  return label.test(text)
    ? { ok: true, value: text as T }
    : { ok: false, problem: `${what} ${JSON.stringify(text)} ${labelRule}` }
}

/** Reads a service's name (an RFC 1123 label). */
export function parseServiceName(text: string): Parsed<ServiceName> {
  return parseLabel('service name', text)
}

/** Reads a host's name (an RFC 1123 label). */
export function parseHostName(text: string): Parsed<HostName> {
  return parseLabel('host name', text)
}

/** Reads an instance's id (an RFC 1123 label). */
export function parseInstanceId(text: string): Parsed<InstanceId> {
  return parseLabel('instance id', text)
}

/** Reads a port's name: an RFC 1123 label that begins with a letter, so that it is never a number. */
export function parsePortName(text: string): Parsed<PortName> {
  const read = parseLabel<PortName>('port name', text)
  return read.ok && /^[0-9]/.test(text)
    ? { ok: false, problem: `port name ${JSON.stringify(text)} must begin with a letter` }
    : read
}

/** Reads a trust domain: dot-separated lower-case labels, 253 characters at most. */
export function parseTrustDomain(text: string): Parsed<TrustDomain> {
  return text.length <= 253 && text.split('.').every((part) => label.test(part))
    ? { ok: true, value: text as TrustDomain }
    : {
        ok: false,
        problem: `trust domain ${JSON.stringify(text)} must be lower-case DNS labels, as in "mesh.internal"`,
      }
}

/** Reads a TCP port from a number. */
export function parsePort(value: number): Parsed<Port> {
  return Number.isInteger(value) && value >= 1 && value <= 65535
    ? { ok: true, value: value as Port }
    : { ok: false, problem: `port ${value} must be a whole number from 1 to 65535` }
}

/** Unwraps a parse of text that is known to be good; throws on a bug. */
export function must<T>(parsed: Parsed<T>): T {
  if (!parsed.ok) throw new TypeError(parsed.problem)
  return parsed.value
}
