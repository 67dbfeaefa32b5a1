/**
 * Owns which fields may pass, as plans: tables by kind that say what is left out. Hop-by-hop fields
 * never pass (RFC 9110 §7.6.1); fields that identify or tell the way are believed from a peer agent
 * only, and otherwise left out before the mesh sets its own. Pure.
 */

import { kinds, type FieldKind } from './field-kinds.ts'

/** 1 at each kind that is left out. */
export type Plan = Uint8Array

function without(...left: readonly FieldKind[]): Plan {
  const plan = new Uint8Array(32)
  for (const kind of left) plan[kind] = 1
  return plan
}

/** Every message: framing is said anew, connections end here. */
const always = [
  kinds.transferEncoding,
  kinds.connection,
  kinds.upgrade,
  kinds.hop,
  kinds.nominated,
  kinds.mesh,
  kinds.disguise,
  kinds.lookalike,
] as const

/** From a caller nothing is believed about itself or the way it came. */
const unproven = [
  ...always,
  kinds.requestId,
  kinds.forwarding,
  kinds.identity,
  kinds.meshReason,
] as const

/** Plans of heads, by who sent them. */
export const plans = {
  requestOfCaller: without(...unproven),
  requestOfCallerWithoutExpect: without(...unproven, kinds.expect),
  /** The agent on the caller's side has told the way; who calls is proven by mTLS alone. */
  requestOfPeer: without(...always, kinds.requestId, kinds.identity, kinds.meshReason),
  requestOfPeerWithoutExpect: without(
    ...always,
    kinds.requestId,
    kinds.identity,
    kinds.meshReason,
    kinds.expect,
  ),
  responseOfService: without(...always, kinds.meshReason),
  /** The peer agent may say why it answered itself. */
  responseOfPeer: without(...always),
  /** RFC 9110 §8.6: 1xx and 204 have no length. */
  bodylessResponse: without(...always, kinds.meshReason, kinds.contentLength),
} as const satisfies Record<string, Plan>

/** Fields that change how a message is read, and so come too late in trailers (RFC 9110 §6.5.1). */
const headOnly: ReadonlySet<string> = new Set([
  'age',
  'cache-control',
  'content-encoding',
  'content-range',
  'content-type',
  'cookie',
  'date',
  'expires',
  'location',
  'max-forwards',
  'range',
  'retry-after',
  'set-cookie',
  'trailer',
  'vary',
])

/** Whether a trailer may go on: nothing that frames, routes, authenticates or identifies. */
export function trailerPasses(kind: FieldKind, name: string): boolean {
  return kind === kinds.plain && !headOnly.has(name.replace(/[^a-z0-9]/g, '-'))
}
