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

/** How the bytes of such a service are carried; a slow HTTP service may be silent for a while. */
export function carriageOf({ speech }: Finding): Protocol {
  return speech === 'http/1.1' || speech === 'silent' ? 'http' : 'tcp'
}

/** Why a declared protocol cannot be what the service speaks; empty where it can. */
export function mismatchOf(declared: Protocol, { speech }: Finding): string {
  if (declared === 'tcp' || speech === 'http/1.1' || speech === 'silent') return ''
  return `declared http, but the service speaks ${words[speech]}`
}

const words = {
  'http/2': 'HTTP/2 without an upgrade',
  tls: 'TLS',
  'server-first': 'first, and not HTTP',
  tcp: 'something else than HTTP/1',
} as const
