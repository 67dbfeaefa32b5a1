/**
 * Owns the writing of heads: from what was parsed, never from the bytes that came, in one pass.
 * Pure. Framing and connection fields are made anew; what may pass is `hygiene.ts`'s matter.
 */

import type { BodyFraming, Fields, RequestHead, ResponseHead } from './head.ts'
import { passes, trailerPasses, type Origin } from './hygiene.ts'

/** Field lines the mesh sets, ready to be appended: `name: value\r\n` each. */
export type OwnFields = string

/** What a response tells the caller about its connection. */
export type ConnectionWord = 'keep-alive' | 'close' | 'upgrade' | 'none'

/** Writes a request's head for the next hop, which keeps the connection. */
export function writeRequestHead(
  head: RequestHead,
  origin: 'caller-request' | 'peer-request',
  own: OwnFields,
): string {
  const { fields, nominated } = head
  let text = `${head.method} ${head.target} HTTP/1.1\r\nhost: ${head.authority}\r\n`
  text += passing(fields, nominated, origin)
  text += requestFraming(head.body, head.method)
  if (head.upgrade !== '') text += `connection: upgrade\r\nupgrade: ${head.upgrade}\r\n`
  return `${text}${own}\r\n`
}

/** Writes a response's head for the caller of `request`. */
export function writeResponseHead(
  head: ResponseHead,
  origin: 'service-response' | 'peer-response',
  connection: ConnectionWord,
  request: RequestHead,
): string {
  const { fields, nominated, body } = head
  let text = `HTTP/1.1 ${head.status} ${head.reasonPhrase}\r\n`
  text += passing(fields, nominated, origin)
  if (request.method === 'HEAD' || head.status === 304) text += lengthAsIs(fields)
  else if (body.kind === 'length') text += `content-length: ${body.length}\r\n`
  else if (isChunkedFor(body, request.http11)) text += 'transfer-encoding: chunked\r\n'
  switch (connection) {
    case 'close':
      text += 'connection: close\r\n'
      break
    case 'keep-alive':
      if (!request.http11) text += 'connection: keep-alive\r\n'
      break
    case 'upgrade':
      text += `connection: upgrade\r\nupgrade: ${head.upgrade}\r\n`
      break
    case 'none':
      break
  }
  return `${text}\r\n`
}

/** Whether a response body goes on in chunks: unknown lengths do, where the caller speaks 1.1. */
export function isChunkedFor(body: BodyFraming, callerHttp11: boolean): boolean {
  return (body.kind === 'chunked' || body.kind === 'until-close') && callerHttp11
}

/** The end of a chunked body with those trailers that may pass. */
export function writeLastChunk(trailers: Fields, nominated: ReadonlySet<string> | null): string {
  if (trailers.length === 0) return '0\r\n\r\n'
  let text = '0\r\n'
  for (const { name, wire } of trailers) {
    if (trailerPasses(name) && nominated?.has(name) !== true) text += wire
  }
  return `${text}\r\n`
}

function passing(fields: Fields, nominated: ReadonlySet<string> | null, origin: Origin): string {
  let text = ''
  for (const { name, wire, verdict } of fields) {
    if (passes(verdict, origin) && nominated?.has(name) !== true) text += wire
  }
  return text
}

function requestFraming(body: BodyFraming, method: string): string {
  switch (body.kind) {
    case 'none':
    case 'until-close':
      // RFC 9110 §8.6: a method that anticipates content says so even when there is none.
      return method === 'POST' || method === 'PUT' || method === 'PATCH'
        ? 'content-length: 0\r\n'
        : ''
    case 'length':
      return `content-length: ${body.length}\r\n`
    case 'chunked':
      return 'transfer-encoding: chunked\r\n'
  }
}

/** HEAD and 304 answers tell the length a GET would have had. */
function lengthAsIs(fields: Fields): string {
  return fields.find(({ name }) => name === 'content-length')?.wire ?? ''
}
