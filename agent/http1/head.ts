/**
 * Owns the reading of HTTP/1.1 heads (RFC 9112 §2 to §6) from text: one pass, strict, pure. What is
 * ambiguous is refused, never repaired. It moves no bytes.
 */

import { FieldReading, hostShape, noFields, readFields } from './field-lines.ts'
import { fault, type HeadFault, type HeadLimits } from './head-fault.ts'
import { afterTarget, afterToken, afterValue } from './octets.ts'

/** How long a body is (RFC 9112 §6.3). */
export type BodyFraming =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  /** Responses only: until the connection ends. */
  | { readonly kind: 'until-close' }

/** A request's head. */
export interface RequestHead {
  readonly kind: 'request'
  readonly method: string
  /** Origin form: path and query, or `*`. */
  readonly target: string
  /** The Host field, or the authority of an absolute-form target. */
  readonly authority: string
  /** Whether the target came in absolute form, as to a proxy. */
  readonly absolute: boolean
  /** HTTP/1.0 has false. */
  readonly http11: boolean
  /** Those that `Connection` named are left out; an id of the request may be the last one's. */
  readonly fields: FieldReading
  readonly body: BodyFraming
  /** Whether the sender wants to keep the connection. */
  readonly keepAlive: boolean
  /** Field names that `Connection` named, hop-by-hop by this message's own word. */
  readonly nominated: ReadonlySet<string> | null
  /** `x-request-id` as it came, whatever `fields` say; empty where there is none. */
  readonly requestId: string
  /**
   * The protocols of the Upgrade field where `Connection: upgrade` asks for it; empty otherwise.
   * Other versions of HTTP are never among them: that is no upgrade, but a way around policy.
   */
  readonly upgrade: string
  readonly expectsContinue: boolean
  /** The request carries NTLM or Negotiate, which authenticate the connection, not the request. */
  readonly connectionAuth: boolean
  /** For the next head of the same sender. */
  readonly reading: FieldReading
}

/** A response's head. */
export interface ResponseHead {
  readonly kind: 'response'
  readonly status: number
  readonly reasonPhrase: string
  readonly http11: boolean
  readonly fields: FieldReading
  readonly body: BodyFraming
  readonly keepAlive: boolean
  readonly nominated: ReadonlySet<string> | null
  readonly upgrade: string
  /** NTLM and Negotiate authenticate the connection: it must never serve another request. */
  readonly connectionAuth: boolean
  /** `x-mesh-reason` as it came; empty where there is none. */
  readonly meshReason: string
  /** `content-length` as it came, which answers to HEAD and 304 keep; -1 where there is none. */
  readonly contentLength: number
  /** For the next head of the same sender. */
  readonly reading: FieldReading
}

const absoluteForm = /^http:\/\/([^/?#]+)([/?].*)?$/i

const none: BodyFraming = { kind: 'none' }
const chunked: BodyFraming = { kind: 'chunked' }
const untilClose: BodyFraming = { kind: 'until-close' }

/**
 * Reads a request's head.
 * @param text latin-1, every line with its CRLF, without the empty line at the end
 * @param last the reading of this caller's last head, if there was one
 */
export function readRequestHead(
  text: string,
  limits: HeadLimits,
  last: FieldReading | null = null,
): RequestHead | HeadFault {
  const methodEnd = afterToken(text, 0)
  const targetEnd = afterTarget(text, methodEnd + 1)
  const version = methodEnd > 0 && text.charCodeAt(methodEnd) === 0x20 ? targetEnd + 1 : -1
  const http11 = text.startsWith('HTTP/1.1\r\n', version)
  const isRequest =
    version > methodEnd + 2 &&
    text.charCodeAt(targetEnd) === 0x20 &&
    (http11 || text.startsWith('HTTP/1.0\r\n', version))
  if (!isRequest) return badRequestLine(text)
  const method = text.slice(0, methodEnd)
  if (method === 'CONNECT') return fault('method-refused', 'CONNECT is not carried by the mesh')
  const nextId = last?.idOfNext(text, version + 10) ?? null
  const reading =
    nextId === null || last === null ? readFields(text, version + 10, limits, last) : last
  if (!(reading instanceof FieldReading)) return reading
  const { host } = reading
  if (host === null && http11) return fault('bad-request', 'HTTP/1.1 needs a Host field')
  if (!reading.hostIsSound) {
    return fault('bad-request', 'the Host field is not a host with an optional port')
  }
  let target = text.slice(methodEnd + 1, targetEnd)
  let authority = host ?? ''
  let absolute = false
  if (target.charCodeAt(0) !== 0x2f) {
    if (target === '*') {
      if (method !== 'OPTIONS') return fault('bad-request', 'the target * goes with OPTIONS only')
    } else {
      const [, urlAuthority = '', rest] = absoluteForm.exec(target) ?? []
      if (!hostShape.test(urlAuthority)) {
        return fault('bad-request', 'the target is neither a path nor an http:// URL of a host')
      }
      if (host !== null && host.toLowerCase() !== urlAuthority.toLowerCase()) {
        return fault('bad-request', 'the Host field and the target name different hosts')
      }
      absolute = true
      authority = urlAuthority
      target = pathOf(method, rest)
    }
  }
  if (target.includes('#')) return fault('bad-request', 'the target holds a fragment')
  if (reading.chunked && !http11) {
    return fault('bad-request', 'Transfer-Encoding in an HTTP/1.0 request')
  }
  return {
    kind: 'request',
    method,
    target,
    authority,
    absolute,
    http11,
    fields: reading.endToEnd,
    body: reading.chunked
      ? chunked
      : reading.contentLength > 0
        ? { kind: 'length', length: reading.contentLength }
        : none,
    keepAlive: reading.close ? false : http11 || reading.keepAlive,
    nominated: reading.nominated,
    requestId: nextId ?? reading.requestId,
    upgrade: reading.upgradeNamed && http11 ? reading.upgrade : '',
    expectsContinue: reading.expectsContinue && http11,
    connectionAuth: reading.connectionAuth,
    reading,
  }
}

/**
 * Reads a response's head.
 * @param text latin-1, every line with its CRLF, without the empty line at the end
 * @param method of the request it answers: HEAD has no body
 * @param last the reading of the last head on this way, if there was one
 */
export function readResponseHead(
  text: string,
  method: string,
  limits: HeadLimits,
  last: FieldReading | null = null,
): ResponseHead | HeadFault {
  const http11 = text.startsWith('HTTP/1.1 ')
  const status = http11 || text.startsWith('HTTP/1.0 ') ? readStatus(text) : 0
  const phraseEnd = afterValue(text, 12)
  const isResponse =
    status > 0 &&
    (phraseEnd === 12 || text.charCodeAt(12) === 0x20) &&
    text.startsWith('\r\n', phraseEnd)
  if (!isResponse) return fault('bad-request', 'the first line is not an HTTP/1.x status line')
  const reading = readFields(text, phraseEnd + 2, limits, last)
  if (!(reading instanceof FieldReading)) return reading
  if (reading.chunked && !http11) {
    return fault('bad-request', 'Transfer-Encoding in an HTTP/1.0 response')
  }
  const body = responseBody(status, method, reading)
  const keepAlive = reading.close ? false : http11 || reading.keepAlive
  return {
    kind: 'response',
    status,
    reasonPhrase: text.slice(13, phraseEnd),
    http11,
    fields: reading.endToEnd,
    body,
    keepAlive: keepAlive && body.kind !== 'until-close',
    nominated: reading.nominated,
    upgrade: reading.upgradeNamed ? reading.upgrade : '',
    connectionAuth: reading.connectionAuth,
    meshReason: reading.meshReason,
    contentLength: reading.contentLength,
    reading,
  }
}

/** Field lines alone, each with its CRLF, as trailers have them (RFC 9112 §7.1.2). */
export function readTrailers(text: string, limits: HeadLimits): FieldReading | HeadFault {
  return text === '' ? noFields : readFields(text, 0, limits)
}

function badRequestLine(text: string): HeadFault {
  const version = / HTTP\/(\d+\.\d+)\r\n/.exec(text)?.[1]
  return version === undefined || version === '1.0' || version === '1.1'
    ? fault('bad-request', 'the first line is not a request line')
    : fault('bad-request', `HTTP/${version} is not spoken here, HTTP/1.1 is`)
}

/** The path of an absolute-form target (RFC 9112 §3.2.1, §3.2.4). */
function pathOf(method: string, rest: string | undefined): string {
  if (rest === undefined) return method === 'OPTIONS' ? '*' : '/'
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** Three digits from 100 to 599 behind the version; 0 for anything else. */
function readStatus(text: string): number {
  const hundreds = text.charCodeAt(9) - 0x30
  const tens = text.charCodeAt(10) - 0x30
  const ones = text.charCodeAt(11) - 0x30
  const isStatus =
    hundreds >= 1 && hundreds <= 5 && tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9
  return isStatus ? hundreds * 100 + tens * 10 + ones : 0
}

function responseBody(status: number, method: string, reading: FieldReading): BodyFraming {
  if (method === 'HEAD' || status < 200 || status === 204 || status === 304) return none
  if (reading.chunked) return chunked
  if (reading.contentLength >= 0) return { kind: 'length', length: reading.contentLength }
  return untilClose
}
