/**
 * Owns the field lines the mesh itself sets on requests: who called, by what way, under which id.
 * They replace whatever the caller sent under those names (`http1/hygiene.ts` takes that out).
 */

import type { RequestHead } from '#agent/http1/head.ts'
import type { ParsedRequest } from '#agent/http1/parsed-request.ts'
import type { Random } from '#agent/platform.ts'
import type { HttpSteps } from './steps.ts'

/** Ids of one process: a random start and a count, unique without asking for randomness each time. */
let prefix = ''
let count = 0x1000_0000_0000

/** Ids that do in a log line. */
const loggable = /^[\x21-\x7e]{1,128}$/

/** A request's id: the peer agent's on the inbound side, a new one on the outbound side. */
export function requestIdOf(head: ParsedRequest | null, steps: HttpSteps, random: Random): string {
  if (head !== null && steps.direction === 'inbound') {
    const { requestId } = head
    if (loggable.test(requestId)) return requestId
  }
  if (prefix === '') prefix = random.bytes(10).toString('hex')
  return prefix + (++count).toString(16)
}

/** The field lines that are the same for every request of a connection. */
export function connectionFields(steps: HttpSteps): string {
  const source = steps.source === null ? '' : `x-mesh-source: ${steps.source}\r\n`
  switch (steps.direction) {
    case 'inbound':
      return source
    case 'outbound': {
      const { callerAddress } = steps
      const address = callerAddress === '' ? '' : `x-forwarded-for: ${callerAddress}\r\n`
      return `${source}${address}x-forwarded-proto: http\r\n`
    }
  }
}

/** The field lines of one request; `fixed` are those of its connection. */
export function requestFields(
  head: RequestHead,
  steps: HttpSteps,
  fixed: string,
  requestId: string,
): string {
  const way =
    steps.direction === 'outbound' && head.authority !== ''
      ? `x-forwarded-host: ${head.authority}\r\n`
      : ''
  return `${fixed}${way}x-request-id: ${requestId}\r\n`
}
