/**
 * Owns the reading of HTTP/1.1 heads (RFC 9112 §2 to §6) from text: one pass, strict, pure. What is
 * ambiguous is refused, never repaired; field names come out in lower case. It moves no bytes.
 */

/** Why bytes are not HTTP/1.1 as this mesh takes it. */
export interface HeadFault {
  readonly kind: 'fault'
  /** The status that tells the sender: 400, 431, 501 or 505. */
  readonly status: number
  /** One sentence with the rule that was broken. */
  readonly problem: string
}

/** How long a body is (RFC 9112 §6.3). */
export type BodyFraming =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  /** Responses only: until the connection ends. */
  | { readonly kind: 'until-close' }

/** Field lines as name, value, name, value …; names in lower case, values without outer spaces. */
export type Fields = readonly string[]

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
  readonly fields: Fields
  readonly body: BodyFraming
  /** Whether the sender wants to keep the connection. */
  readonly keepAlive: boolean
  /** Field names that `Connection` named, hop-by-hop by this message's own word. */
  readonly nominated: ReadonlySet<string> | null
  /** The Upgrade field where `Connection: upgrade` asks for it; empty otherwise. */
  readonly upgrade: string
  readonly expectsContinue: boolean
  /** The request carries NTLM or Negotiate, which authenticate the connection, not the request. */
  readonly connectionAuth: boolean
}

/** A response's head. */
export interface ResponseHead {
  readonly kind: 'response'
  readonly status: number
  readonly reasonPhrase: string
  readonly http11: boolean
  readonly fields: Fields
  readonly body: BodyFraming
  readonly keepAlive: boolean
  readonly nominated: ReadonlySet<string> | null
  readonly upgrade: string
  /** NTLM and Negotiate authenticate the connection: it must never serve another request. */
  readonly connectionAuth: boolean
}

/** Limits of a head. */
export interface HeadLimits {
  /** @default 65536 */
  readonly maxBytes: number
  /** @default 100 */
  readonly maxFields: number
}

/** The defaults of {@link HeadLimits}. */
export const headDefaults: HeadLimits = { maxBytes: 65_536, maxFields: 100 }

// Controls but HT, CR, LF; a CR without LF after it; an LF without CR before it.
// oxlint-disable-next-line no-control-regex -- the control characters are what is looked for
const forbidden = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n/
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const requestLine = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP\/1\.([01])$/
const statusLine = /^HTTP\/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?$/
const digits = /^[0-9]{1,15}$/
/** RFC 3986 §3.2 without user information: a name, IPv4, or bracketed IPv6, and a port. */
const hostShape = /^(?:[A-Za-z0-9._~!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?$/
const absoluteForm = /^http:\/\/([^/?#]+)([/?].*)?$/i

const none: BodyFraming = { kind: 'none' }
const chunked: BodyFraming = { kind: 'chunked' }
const untilClose: BodyFraming = { kind: 'until-close' }

function fault(status: number, problem: string): HeadFault {
  return { kind: 'fault', status, problem }
}

/** What field lines say about their message; filled by `readFields`. */
class FieldReading {
  readonly fields: string[] = []
  host: string | null = null
  contentLength = -1
  chunked = false
  close = false
  keepAlive = false
  upgradeNamed = false
  upgrade = ''
  expectsContinue = false
  connectionAuth = false
  nominated: Set<string> | null = null
}

/**
 * Reads a request's head.
 * @param text latin-1, from the first byte to before the empty line, without the last CRLF
 */
export function readRequestHead(text: string, limits: HeadLimits): RequestHead | HeadFault {
  if (forbidden.test(text)) return fault(400, 'a control character, bare CR or bare LF in the head')
  const end = text.indexOf('\r\n')
  const line = requestLine.exec(end < 0 ? text : text.slice(0, end))
  if (line === null) return badRequestLine(end < 0 ? text : text.slice(0, end))
  const method = line[1] as string
  const rawTarget = line[2] as string
  const http11 = line[3] === '1'
  const reading = readFields(text, end, limits)
  if (!(reading instanceof FieldReading)) return reading
  const { host } = reading
  if (host === null && http11) return fault(400, 'HTTP/1.1 needs a Host field')
  if (host !== null && host !== '' && !hostShape.test(host)) {
    return fault(400, 'the Host field is not a host with an optional port')
  }
  let target = rawTarget
  let authority = host ?? ''
  const absolute = !rawTarget.startsWith('/') && rawTarget !== '*'
  if (absolute) {
    const parts = absoluteForm.exec(rawTarget)
    if (parts === null) return fault(400, 'the target is neither a path nor an http:// URL')
    const [, urlAuthority = '', rest = '/'] = parts
    if (!hostShape.test(urlAuthority)) return fault(400, 'the target names no valid host')
    if (host !== null && host.toLowerCase() !== urlAuthority.toLowerCase()) {
      return fault(400, 'the Host field and the target name different hosts')
    }
    authority = urlAuthority
    target = rest.startsWith('/') ? rest : `/${rest}`
  } else if (rawTarget === '*' && method !== 'OPTIONS') {
    return fault(400, 'the target * goes with OPTIONS only')
  }
  if (target.includes('#')) return fault(400, 'the target holds a fragment')
  if (reading.chunked && !http11) return fault(400, 'Transfer-Encoding in an HTTP/1.0 request')
  return {
    kind: 'request',
    method,
    target,
    authority,
    absolute,
    http11,
    fields: reading.fields,
    body: reading.chunked
      ? chunked
      : reading.contentLength > 0
        ? { kind: 'length', length: reading.contentLength }
        : none,
    keepAlive: reading.close ? false : http11 || reading.keepAlive,
    nominated: reading.nominated,
    upgrade: reading.upgradeNamed && http11 ? reading.upgrade : '',
    expectsContinue: reading.expectsContinue && http11,
    connectionAuth: reading.connectionAuth,
  }
}

/**
 * Reads a response's head.
 * @param text latin-1, from the first byte to before the empty line, without the last CRLF
 * @param method of the request it answers: HEAD has no body
 */
export function readResponseHead(
  text: string,
  method: string,
  limits: HeadLimits,
): ResponseHead | HeadFault {
  if (forbidden.test(text)) return fault(400, 'a control character, bare CR or bare LF in the head')
  const end = text.indexOf('\r\n')
  const line = statusLine.exec(end < 0 ? text : text.slice(0, end))
  if (line === null) return fault(400, 'the first line is not an HTTP/1.x status line')
  const http11 = line[1] === '1'
  const status = Number(line[2])
  const reading = readFields(text, end, limits)
  if (!(reading instanceof FieldReading)) return reading
  if (reading.chunked && !http11) return fault(400, 'Transfer-Encoding in an HTTP/1.0 response')
  const body = responseBody(status, method, reading)
  const keepAlive = reading.close ? false : http11 || reading.keepAlive
  return {
    kind: 'response',
    status,
    reasonPhrase: line[3] ?? '',
    http11,
    fields: reading.fields,
    body,
    keepAlive: keepAlive && body.kind !== 'until-close',
    nominated: reading.nominated,
    upgrade: reading.upgradeNamed ? reading.upgrade : '',
    connectionAuth: reading.connectionAuth,
  }
}

/** Field lines alone, as trailers have them (RFC 9112 §7.1.2). */
export function readTrailers(text: string, limits: HeadLimits): Fields | HeadFault {
  if (text === '') return []
  if (forbidden.test(text)) return fault(400, 'a control character in the trailers')
  const reading = readFields(`\r\n${text}`, 0, limits)
  return reading instanceof FieldReading ? reading.fields : reading
}

function badRequestLine(line: string): HeadFault {
  const version = / HTTP\/(\d+\.\d+)$/.exec(line)?.[1]
  if (version !== undefined && version !== '1.0' && version !== '1.1') {
    return fault(505, `HTTP/${version} is not spoken here`)
  }
  return fault(400, 'the first line is not a request line')
}

function responseBody(status: number, method: string, reading: FieldReading): BodyFraming {
  if (method === 'HEAD' || status < 200 || status === 204 || status === 304) return none
  if (reading.chunked) return chunked
  if (reading.contentLength >= 0) return { kind: 'length', length: reading.contentLength }
  return untilClose
}

function readFields(text: string, firstEnd: number, limits: HeadLimits): FieldReading | HeadFault {
  const reading = new FieldReading()
  const { fields } = reading
  for (let end = firstEnd; end >= 0;) {
    const from = end + 2
    end = text.indexOf('\r\n', from)
    const line = end < 0 ? text.slice(from) : text.slice(from, end)
    const colon = line.indexOf(':')
    const rawName = colon < 0 ? '' : line.slice(0, colon)
    if (!token.test(rawName)) {
      return fault(400, 'a field line does not begin with a name and a colon')
    }
    if (fields.length >= limits.maxFields * 2) {
      return fault(431, `more than ${limits.maxFields} header fields`)
    }
    const name = rawName.toLowerCase()
    const value = trim(line, colon + 1)
    const problem = note(reading, name, value)
    if (problem !== null) return problem
    fields.push(name, value)
  }
  if (reading.chunked && reading.contentLength >= 0) {
    return fault(400, 'both Content-Length and Transfer-Encoding')
  }
  return reading
}

/** The value from `from` on without spaces and tabs at its ends. */
function trim(line: string, from: number): string {
  let start = from
  let end = line.length
  while (start < end && isBlank(line.charCodeAt(start))) start++
  while (end > start && isBlank(line.charCodeAt(end - 1))) end--
  return line.slice(start, end)
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/** Takes note of what a field says about framing and connection. */
function note(reading: FieldReading, name: string, value: string): HeadFault | null {
  switch (name) {
    case 'host':
      if (reading.host !== null) return fault(400, 'more than one Host field')
      reading.host = value
      return null
    case 'content-length':
      if (reading.contentLength >= 0) return fault(400, 'more than one Content-Length field')
      if (!digits.test(value)) return fault(400, 'Content-Length is not a number')
      reading.contentLength = Number(value)
      return null
    case 'transfer-encoding':
      if (reading.chunked) return fault(400, 'more than one Transfer-Encoding field')
      if (value.toLowerCase() !== 'chunked') {
        return fault(501, 'a Transfer-Encoding other than exactly chunked')
      }
      reading.chunked = true
      return null
    case 'connection':
      return noteConnection(reading, value)
    case 'upgrade':
      reading.upgrade = reading.upgrade === '' ? value : `${reading.upgrade}, ${value}`
      return null
    case 'expect':
      if (value.toLowerCase() !== '100-continue') return fault(417, 'an unknown Expect field')
      reading.expectsContinue = true
      return null
    case 'authorization':
    case 'proxy-authenticate':
    case 'www-authenticate':
      if (/^(?:ntlm|negotiate)\b/i.test(value)) reading.connectionAuth = true
      return null
  }
  return null
}

function noteConnection(reading: FieldReading, value: string): HeadFault | null {
  for (const part of value.toLowerCase().split(',')) {
    const option = part.trim()
    switch (option) {
      case '':
      case 'te':
        break
      case 'close':
        reading.close = true
        break
      case 'keep-alive':
        reading.keepAlive = true
        break
      case 'upgrade':
        reading.upgradeNamed = true
        break
      default:
        if (!token.test(option)) return fault(400, 'the Connection field is not a list of names')
        reading.nominated ??= new Set()
        reading.nominated.add(option)
    }
  }
  return null
}
