/**
 * Owns the field lines the mesh itself sets on requests: who called, by what way, under which id.
 * They replace whatever the caller sent under those names (`http1/hygiene.ts` takes that out).
 */

import type { Fields, RequestHead } from '#agent/http1/head.ts'
import type { Random } from '#agent/platform.ts'
import type { Direction } from '#shared/model/outcome.ts'
import type { HttpSteps } from './steps.ts'

/** Ids of one process: a random start and a count, unique without asking for randomness each time. */
let prefix = ''
let count = 0

/** A request's id: the peer agent's on the inbound side, a new one on the outbound side. */
export function requestIdOf(
  head: RequestHead | null,
  direction: Direction,
  random: Random,
): string {
  if (direction === 'inbound' && head !== null) {
    const given = valueOf(head.fields, 'x-request-id')
    if (given !== '' && given.length <= 128) return given
  }
  if (prefix === '') prefix = random.bytes(10).toString('hex')
  count++
  return `${prefix}${count.toString(16).padStart(12, '0')}`
}

/** The field lines of a request that goes on. */
export function requestFields(head: RequestHead, steps: HttpSteps, requestId: string): string {
  switch (steps.direction) {
    case 'inbound':
      return steps.source === null ? '' : `x-mesh-source: ${steps.source}\r\n`
    case 'outbound': {
      const source = steps.source === null ? '' : `x-mesh-source: ${steps.source}\r\n`
      return (
        `x-request-id: ${requestId}\r\nx-forwarded-for: ${steps.callerAddress}\r\n` +
        `x-forwarded-proto: http\r\nx-forwarded-host: ${head.authority}\r\n${source}`
      )
    }
  }
}

/** The first value of a field; empty where there is none. */
export function valueOf(fields: Fields, name: string): string {
  for (let i = 0; i < fields.length; i += 2) if (fields[i] === name) return fields[i + 1] as string
  return ''
}
