/**
 * Owns the ids of requests: the peer agent's on the inbound side, a new one on the outbound side. New
 * ones are random for the process and counted for the request, made of parts that stay, so that most
 * cost no conversion of a number.
 */

import type { RequestHead } from '#agent/http1/head.ts'
import type { Random } from '#agent/platform.ts'
import type { HttpSteps } from './steps.ts'

let processPart = ''
let prefix = ''
let count = 0
const pairs = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** What a peer agent may give as an id: it goes into logs and replies. */
const idShape = /^[\x21-\x7e]{1,128}$/

/** The id of a request; of bytes that are none where there is no head. */
export function requestIdOf(
  head: RequestHead | null,
  parts: { readonly steps: HttpSteps; readonly random: Random },
): string {
  if (parts.steps.direction === 'inbound' && head !== null) {
    const { requestId } = head
    if (idShape.test(requestId)) return requestId
  }
  if (processPart === '') processPart = parts.random.bytes(10).toString('hex')
  if ((count & 0xffff) === 0) prefix = processPart + (count >>> 16).toString(16).padStart(8, '0')
  const low = count & 0xffff
  count++
  return prefix + pairs[low >> 8] + pairs[low & 0xff]
}
