/**
 * Owns the question "may this caller call this service?". Pure. The callee's agent asks it for
 * every connection and request; the caller's agent only carries bytes to where it is asked.
 */

import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { mintPermit, type Permit } from './permit.ts'

/** The answer, with the rule that gave it. */
export type Verdict =
  | { readonly kind: 'permitted'; readonly permit: Permit }
  | { readonly kind: 'denied'; readonly rule: string; readonly detail: string }

const allowMesh: Verdict = { kind: 'permitted', permit: mintPermit('default allow-mesh') }
const carried = mintPermit('carried to the callee’s agent')

/**
 * Decides by the default of every service, `allow-mesh`: whoever proved an identity of this mesh
 * may call.
 */
export function authorise(source: SpiffeId | null, destination: SpiffeId): Verdict {
  if (source !== null) return allowMesh
  return {
    kind: 'denied',
    rule: 'default allow-mesh',
    detail: `${destination} takes only callers with an identity of this mesh; this one has none`,
  }
}

/** The permit of a call that leaves this host: it is authorised where it arrives. */
export function permitToCarry(): Permit {
  return carried
}
