/**
 * Owns what a head is to the rooms that decide by it: types, limits and the words of a refusal. The
 * reading is `parsed-request.ts` and `parsed-response.ts`.
 */

import type { Reason } from '#shared/model/reason.ts'

/** Limits of a head, trailers included. */
export interface HeadLimits {
  /** @default 65536 */
  readonly maxBytes: number
  /** @default 100 */
  readonly maxFields: number
}

/** The defaults of {@link HeadLimits}. */
export const headDefaults: HeadLimits = { maxBytes: 65_536, maxFields: 100 }

/** Why bytes are not HTTP/1.1 as this mesh takes it. */
export interface HeadFault {
  readonly reason: Extract<Reason, 'bad-request' | 'head-too-large' | 'method-refused'>
  /** One sentence with the rule that was broken. */
  readonly problem: string
}

/** How the end of a body is known (RFC 9112 §6.3); `until-close` is for responses only. */
export type Framing = 'none' | 'length' | 'chunked' | 'until-close'

/** Answers of a reader beside the index where a head ends. */
export const needsMore = -1
export const refused = -2

/** A request as route and policy see it; the very head that is written to the service. */
export interface RequestHead {
  readonly method: string
  /** Origin form, path and query, or `*`. */
  readonly target: string
  /** The Host field; empty where HTTP/1.0 named none. */
  readonly authority: string
  /** Whether the target came in absolute form, as to a proxy. */
  readonly absolute: boolean
  /** HTTP/1.0 has false. */
  readonly http11: boolean
  /** A field's value, those of repeated fields joined by `, `; null where there is none. */
  value(name: string): string | null
}
