/**
 * Owns what two agents say to each other in the header sections of a CONNECT stream: whither, and in
 * a refusal why not. Everything a peer says is checked before it is believed or shown.
 */

import type { Reason } from '#shared/model/reason.ts'
import { type HeaderField, headerField } from '#agent/http2/header-field.ts'
import type { ResponseHead } from '#agent/http2/header-rules.ts'

/** Reasons a far agent may give for taking no stream; any other word of it is not repeated. */
const refusals: ReadonlySet<string> = new Set<Reason>([
  'bad-request',
  'draining',
  'instance-refused',
  'method-refused',
  'no-credential',
  'no-instances',
  'not-http',
  'overloaded',
  'policy-denied',
  'unknown-service',
])

const reasonField = 'x-mesh-reason'
const detailField = 'x-mesh-detail'
const maxDetail = 256

/** Why a far agent took no stream. */
export interface Refusal {
  readonly reason: Reason
  readonly detail: string
}

const connect = headerField(':method', 'CONNECT')
const accepted: readonly HeaderField[] = [headerField(':status', '200')]

/** The header section that asks for a stream to `authority`. */
export function connectFields(authority: string): readonly HeaderField[] {
  return [connect, headerField(':authority', authority)]
}

/** The header section that grants a stream. */
export function acceptanceFields(): readonly HeaderField[] {
  return accepted
}

/** The header section that refuses a stream. */
export function refusalFields(
  status: number,
  reason: Reason,
  detail: string,
): readonly HeaderField[] {
  return [
    headerField(':status', String(status)),
    headerField(reasonField, reason),
    headerField(detailField, printable(detail)),
  ]
}

/** Reads a response that is no success; peers that are no agents of ours may have sent it. */
export function readRefusal(head: ResponseHead): Refusal {
  const text = (name: string): string =>
    head.fields.find((field) => field.name === name)?.value ?? ''
  const reason = text(reasonField)
  const detail = printable(text(detailField))
  return refusals.has(reason)
    ? { reason: reason as Reason, detail: detail === '' ? `the far agent said ${reason}` : detail }
    : { reason: 'tunnel-failed', detail: `the far side answered CONNECT with ${head.status}` }
}

/** One line of printable ASCII. */
function printable(text: string): string {
  return text
    .slice(0, maxDetail)
    .replace(/[^\x20-\x7e]/g, '?')
    .trim()
}
