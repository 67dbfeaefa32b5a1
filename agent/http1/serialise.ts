/**
 * Owns the writing of heads in one pass: runs of lines that are already what the parser understood
 * are taken as they are, all others are left out or written anew, so that what goes on is exactly
 * what was parsed. Which lines pass is `hygiene.ts`'s matter. Pure.
 */

import type { FieldSection } from './field-section.ts'
import type { ParsedRequest } from './parsed-request.ts'
import type { ParsedResponse } from './parsed-response.ts'
import { plans, type Plan } from './hygiene.ts'

/** Field lines the mesh sets, ready to be appended: `name: value\r\n` each. */
export type OwnFields = string

/** Writes a request's head for the next hop, which keeps the connection. */
export function writeRequestHead(
  head: ParsedRequest,
  from: 'caller' | 'peer-agent',
  own: OwnFields,
): string {
  const { fields } = head
  const text = head.tidyLine
    ? passing(fields, 0, requestPlan(head, from))
    : `${head.method} ${head.target} HTTP/1.1\r\n${passing(fields, fields.start, requestPlan(head, from))}`
  const framing = head.framing === 'chunked' ? chunkedField : ''
  const upgrade = head.upgrade === '' ? '' : upgradeFields(head.upgrade)
  return `${text}${framing}${upgrade}${own}\r\n`
}

function requestPlan(head: ParsedRequest, from: 'caller' | 'peer-agent'): Plan {
  switch (from) {
    case 'caller':
      return head.expectsContinue ? plans.requestOfCaller : plans.requestOfCallerWithoutExpect
    case 'peer-agent':
      return head.expectsContinue ? plans.requestOfPeer : plans.requestOfPeerWithoutExpect
  }
}

/** What a response tells the caller about its connection. */
export type ConnectionWord = 'close' | 'keep-alive' | 'upgrade' | 'nothing'

/** Writes a response's head for the caller. `isChunked`: whether its body goes on in chunks. */
export function writeResponseHead(
  head: ParsedResponse,
  from: 'service' | 'peer-agent',
  word: ConnectionWord,
  isChunked: boolean,
): string {
  const { fields, status } = head
  const plan =
    status < 200 || status === 204
      ? plans.bodylessResponse
      : from === 'service'
        ? plans.responseOfService
        : plans.responseOfPeer
  const text = head.tidyLine
    ? passing(fields, 0, plan)
    : `HTTP/1.1 ${status} ${head.phrase}\r\n${passing(fields, fields.start, plan)}`
  const framing = isChunked ? chunkedField : ''
  switch (word) {
    case 'nothing':
      return `${text}${framing}\r\n`
    case 'close':
      return `${text}${framing}connection: close\r\n\r\n`
    case 'keep-alive':
      return `${text}${framing}connection: keep-alive\r\n\r\n`
    case 'upgrade':
      return `${text}${upgradeFields(head.upgrade)}\r\n`
  }
}

const chunkedField = 'transfer-encoding: chunked\r\n'

function upgradeFields(protocol: string): string {
  return `connection: upgrade\r\nupgrade: ${protocol}\r\n`
}

/** The lines from `from` on that pass, without the empty line. */
function passing(fields: FieldSection, from: number, plan: Plan): string {
  const { text, noted } = fields
  let passed = ''
  let run = from
  for (let i = 0; i < noted; i++) {
    const isLeftOut = plan[fields.kindAt(i)] === 1
    if (!isLeftOut && fields.isTidy(i)) continue
    const start = fields.lineStartAt(i)
    if (start > run) passed += text.slice(run, start)
    run = fields.lineEndAt(i)
    if (isLeftOut) continue
    const value = fields.valueAt(i)
    passed += `${text.slice(start, text.indexOf(':', start))}:${value === '' ? '' : ` ${value}`}\r\n`
  }
  return passed + text.slice(run, -2)
}
