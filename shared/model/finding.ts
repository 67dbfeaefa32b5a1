/**
 * Owns what the agent finds when it asks a local service how it speaks, and what follows from that
 * for the way its bytes are carried. Pure.
 */

import type { Protocol } from './records.ts'

/** How a service speaks. */
export type Speech =
  | 'http/1.1'
  | 'http/2'
  | 'tls'
  /** It speaks before it is spoken to. */
  | 'server-first'
  /** It answers, or ends the connection, but not as HTTP. */
  | 'tcp'
  /** It takes the connection and says nothing. */
  | 'silent'

/** What was found. */
export interface Finding {
  readonly speech: Speech
  /** How long it keeps an idle connection, as far as it says so. */
  readonly keepAliveMs?: number
}

/** What a manifest may say that a service speaks. */
export const declarable = ['http', 'http2', 'grpc', 'tcp', 'tls'] as const

/** See `declarable`. */
export type DeclaredProtocol = (typeof declarable)[number]

/** How the bytes of such a service are carried; a slow HTTP service may be silent for a while. */
export function carriageOf({ speech }: Finding): Protocol {
  return speech === 'http/1.1' || speech === 'silent' ? 'http' : 'tcp'
}

/** How the bytes of a declared protocol are carried: requests are read of HTTP/1 alone. */
export function carriageOfDeclared(declared: DeclaredProtocol): Protocol {
  return declared === 'http' ? 'http' : 'tcp'
}

/** What follows from a declared protocol that is carried as bytes; empty where nothing does. */
export function carriageNote(declared: DeclaredProtocol | null): string {
  switch (declared) {
    case null:
    case 'http':
    case 'tcp':
      return ''
    case 'http2':
    case 'grpc':
      return `${declared} is carried as the bytes it is, connection by connection: callers are known and policy about callers and ports counts, but no request is looked into, counted or balanced by itself`
    case 'tls':
      return 'tls is carried as the bytes it is, inside the mesh’s own TLS: callers are known and policy about callers and ports counts, but no request is looked into'
  }
}

/** What each declared protocol cannot be found to speak. */
const contradicted: Readonly<Record<DeclaredProtocol, ReadonlySet<Speech>>> = {
  http: new Set(['http/2', 'tls', 'server-first', 'tcp']),
  // Many servers of HTTP/2 speak HTTP/1 as well, and are asked for that first.
  http2: new Set(['tls', 'tcp']),
  grpc: new Set(['tls', 'tcp']),
  tls: new Set(['http/1.1', 'http/2', 'server-first', 'tcp']),
  tcp: new Set(),
}

/** Why a declared protocol cannot be what the service speaks; empty where it can. */
export function mismatchOf(declared: DeclaredProtocol, { speech }: Finding): string {
  if (speech === 'silent' || !contradicted[declared].has(speech)) return ''
  return `declared ${declared}, but the service speaks ${words[speech]}`
}

const words = {
  'http/1.1': 'HTTP/1',
  'http/2': 'HTTP/2 without an upgrade',
  tls: 'TLS',
  'server-first': 'first, and not HTTP',
  tcp: 'something that is neither HTTP nor TLS',
} as const
