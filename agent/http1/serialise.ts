/**
 * Owns the writing of heads: from what was parsed, never from the bytes that came, in one pass.
 * Pure. Framing and connection fields are made anew; what may pass is `hygiene.ts`'s matter.
 */

import { linesOf, type Section } from './field-lines.ts'
import type { BodyFraming, RequestHead, ResponseHead } from './head.ts'
import { trailerPasses } from './hygiene.ts'

/** What a response tells the caller about its connection. */
export type ConnectionWord = 'keep-alive' | 'close' | 'upgrade' | 'none'

/**
 * Writes a request's head for the next hop, which keeps the connection; what the mesh itself says is
 * appended to it, and an empty line. `authority` is what the next hop knows itself by.
 */
export function writeRequestHead(
  head: RequestHead,
  origin: 'caller-request' | 'peer-request',
  authority = head.authority,
): string {
  let text = `${head.method} ${head.target} HTTP/1.1\r\nhost: ${authority}\r\n`
  text += head.fields.passingLines(origin)
  text += requestFraming(head.body, head.method)
  if (head.upgrade !== '') text += `connection: upgrade\r\nupgrade: ${head.upgrade}\r\n`
  return text
}

/** Writes a response's head for the caller of `request`. */
export function writeResponseHead(
  head: ResponseHead,
  origin: 'service-response' | 'peer-response',
  connection: ConnectionWord,
  request: RequestHead,
): string {
  const { body } = head
  let text = `HTTP/1.1 ${head.status} ${head.reasonPhrase}\r\n`
  text += head.fields.passingLines(origin)
  if (request.method === 'HEAD' || head.status === 304) text += lengthAsIs(head.contentLength)
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
export function writeLastChunk(trailers: Section, nominated: ReadonlySet<string> | null): string {
  if (trailers.text.length === trailers.from) return '0\r\n\r\n'
  let text = '0\r\n'
  for (const [name, value] of linesOf(trailers)) {
    if (trailerPasses(name) && nominated?.has(name) !== true) text += `${name}: ${value}\r\n`
  }
  return `${text}\r\n`
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
function lengthAsIs(contentLength: number): string {
  return contentLength < 0 ? '' : `content-length: ${contentLength}\r\n`
}
