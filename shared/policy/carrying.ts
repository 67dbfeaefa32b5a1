/**
 * Owns the permit of calls that are not authorised here: what leaves this host is authorised by the
 * callee's agent, which alone knows its service's policy. Pure.
 */

import { mintPermit, type Permit } from './permit.ts'

const carried = mintPermit('carried to the callee’s agent')

/** The permit of a call that leaves this host: it is authorised where it arrives. */
export function permitToCarry(): Permit {
  return carried
}
