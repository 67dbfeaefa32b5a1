/** Owns how the codec says that bytes are not HTTP/1.1 as this mesh takes it, and its limits. */

import type { Reason } from '#shared/model/reason.ts'

/** Why bytes are refused. Whoever refuses a response says so in words of its own. */
export interface HeadFault {
  readonly kind: 'fault'
  readonly reason: Extract<Reason, 'bad-request' | 'head-too-large' | 'method-refused'>
  /** One sentence with the rule that was broken. */
  readonly problem: string
}

/** Limits of a head, and of a trailer section. */
export interface HeadLimits {
  /** @default 65536 */
  readonly maxBytes: number
  /** @default 100 */
  readonly maxFields: number
}

/** The defaults of {@link HeadLimits}. */
export const headDefaults: HeadLimits = { maxBytes: 65_536, maxFields: 100 }

/** Most that an agent adds to a head on its way: its own fields, and framing made anew. */
const own = { bytes: 4096, fields: 16 }

/** Limits for what a peer agent let pass under the given ones: it may have become larger. */
export function withRoom({ maxBytes, maxFields }: HeadLimits): HeadLimits {
  return { maxBytes: maxBytes + own.bytes, maxFields: maxFields + own.fields }
}

/** Makes a fault. */
export function fault(reason: HeadFault['reason'], problem: string): HeadFault {
  return { kind: 'fault', reason, problem }
}

/** The fault of a head that is too large. */
export function tooLarge(maxBytes: number): HeadFault {
  return fault('head-too-large', `the head is larger than ${maxBytes} bytes`)
}
