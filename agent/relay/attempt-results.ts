/** Owns what the end of an attempt says of the instance it went to, by the reason it ended for. Pure. */

import type { Reason } from '#shared/model/reason.ts'
import type { AttemptResult } from './upstream.ts'

/** Reasons that are the caller's or this side's, not the instance's. */
const ownFault: ReadonlySet<Reason> = new Set(['policy-denied', 'no-credential', 'overloaded'])
/** Reasons that are the instance's, or the way's to it. */
const farFault: ReadonlySet<Reason> = new Set([
  'bad-response',
  'response-timeout',
  'tunnel-lost',
  'instance-aborted',
  'instance-aborted-twice',
])

/** Of an attempt that came to nothing; a refusal for the caller's sake says nothing of the instance. */
export function resultOfUnsent(reason: Reason): AttemptResult {
  return ownFault.has(reason) ? 'abandoned' : farFault.has(reason) ? 'reset' : 'connect-failed'
}

/** Of an attempt that was answered. */
export function resultOfAnswer(status: number, peerReason: Reason): AttemptResult {
  if (status < 500) return 'ok'
  return ownFault.has(peerReason) ? 'abandoned' : 'server-error'
}

/** Of an attempt that was under way. */
export function resultOfStop(reason: Reason): AttemptResult {
  if (reason === 'ok') return 'ok'
  return farFault.has(reason) ? 'reset' : 'abandoned'
}
