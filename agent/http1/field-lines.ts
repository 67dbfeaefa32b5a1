/**
 * Owns the reading of field lines (RFC 9112 §5) and what they say about framing and connection.
 * Strict and pure: each line is a name, a colon at once, a value without control characters, CRLF.
 */

import { fault, type HeadFault, type HeadLimits } from './head-fault.ts'
import { afterToken, afterValue, trimBlanks } from './octets.ts'

/** What field lines say about their message. */
export class FieldReading {
  /** Name, value, name, value …; names in lower case. */
  readonly fields: string[] = []
  host: string | null = null
  /** -1 where there is none. */
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

/** Takes note of a field's value, or answers what is wrong with it. */
type Note = (reading: FieldReading, value: string) => HeadFault | null

const colon = 0x3a
const digits = /^[0-9]{1,15}$/
const connectionBound = /(?:^|[,\t ])(?:ntlm|negotiate)(?![^\t ,])/i
const protocol = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:\/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?$/
const otherHttp = /^(?:h2c?|h3|http)(?![A-Za-z])/i

const notes: ReadonlyMap<string, Note> = new Map<string, Note>([
  ['host', noteHost],
  ['content-length', noteContentLength],
  ['transfer-encoding', noteTransferEncoding],
  ['connection', noteConnection],
  ['upgrade', noteUpgrade],
  ['expect', noteExpect],
  ['authorization', noteAuthentication],
  ['proxy-authenticate', noteAuthentication],
  ['www-authenticate', noteAuthentication],
])

/** A field name as it is often spelt. */
interface Known {
  readonly name: string
  readonly note: Note | undefined
}

/** Spares the usual names the making of another string. */
const known: ReadonlyMap<string, Known> = new Map(
  `Accept Accept-Encoding Accept-Language Accept-Ranges Age Authorization Cache-Control Connection
  Content-Encoding Content-Length Content-Type Cookie Date ETag Expect Expires Host
  If-Modified-Since If-None-Match Keep-Alive Last-Modified Location Origin Range Referer Server
  Set-Cookie Transfer-Encoding Upgrade User-Agent Vary X-Forwarded-For X-Forwarded-Host
  X-Forwarded-Proto X-Mesh-Reason X-Mesh-Source X-Powered-By X-Request-Id Traceparent Tracestate`
    .split(/\s+/)
    .flatMap((spelling) => {
      const name = spelling.toLowerCase()
      const entry: Known = { name, note: notes.get(name) }
      return [
        [spelling, entry],
        [name, entry],
      ]
    }),
)

/**
 * Reads field lines.
 * @param text latin-1, every line with its CRLF
 * @param from where the first line begins
 */
export function readFields(
  text: string,
  from: number,
  limits: HeadLimits,
): FieldReading | HeadFault {
  const reading = new FieldReading()
  const { fields } = reading
  for (let at = from; at < text.length;) {
    const nameEnd = afterToken(text, at)
    if (nameEnd === at || text.charCodeAt(nameEnd) !== colon) {
      return fault('bad-request', 'a field line does not begin with a name and a colon')
    }
    const end = afterValue(text, nameEnd + 1)
    if (!text.startsWith('\r\n', end)) {
      return fault('bad-request', 'a control character, bare CR or bare LF in a field line')
    }
    if (fields.length >= limits.maxFields * 2) {
      return fault('head-too-large', `more than ${limits.maxFields} header fields`)
    }
    const spelling = text.slice(at, nameEnd)
    const entry = known.get(spelling)
    const name = entry === undefined ? spelling.toLowerCase() : entry.name
    const note = entry === undefined ? notes.get(name) : entry.note
    const value = trimBlanks(text, nameEnd + 1, end)
    const problem = note === undefined ? null : note(reading, value)
    if (problem !== null) return problem
    fields.push(name, value)
    at = end + 2
  }
  if (reading.chunked && reading.contentLength >= 0) {
    return fault('bad-request', 'both Content-Length and Transfer-Encoding')
  }
  return reading
}

function noteHost(reading: FieldReading, value: string): HeadFault | null {
  if (reading.host !== null) return fault('bad-request', 'more than one Host field')
  reading.host = value
  return null
}

function noteContentLength(reading: FieldReading, value: string): HeadFault | null {
  if (reading.contentLength >= 0) {
    return fault('bad-request', 'more than one Content-Length field')
  }
  if (!digits.test(value)) return fault('bad-request', 'Content-Length is not a number')
  reading.contentLength = Number(value)
  return null
}

function noteTransferEncoding(reading: FieldReading, value: string): HeadFault | null {
  if (reading.chunked) return fault('bad-request', 'more than one Transfer-Encoding field')
  if (value.toLowerCase() !== 'chunked') {
    return fault('bad-request', 'a Transfer-Encoding other than exactly chunked')
  }
  reading.chunked = true
  return null
}

function noteConnection(reading: FieldReading, value: string): HeadFault | null {
  for (const part of value.toLowerCase().split(',')) {
    const option = trimBlanks(part, 0, part.length)
    switch (option) {
      case '':
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
        if (afterToken(option, 0) < option.length) {
          return fault('bad-request', 'the Connection field is not a list of names')
        }
        reading.nominated ??= new Set()
        reading.nominated.add(option)
    }
  }
  return null
}

function noteUpgrade(reading: FieldReading, value: string): HeadFault | null {
  for (const part of value.split(',')) {
    const name = trimBlanks(part, 0, part.length)
    if (name === '') continue
    if (!protocol.test(name))
      return fault('bad-request', 'the Upgrade field is not a list of names')
    if (otherHttp.test(name)) continue
    reading.upgrade = reading.upgrade === '' ? name : `${reading.upgrade}, ${name}`
  }
  return null
}

function noteExpect(reading: FieldReading, value: string): HeadFault | null {
  if (value.toLowerCase() !== '100-continue') {
    return fault('bad-request', 'an Expect field other than 100-continue')
  }
  reading.expectsContinue = true
  return null
}

function noteAuthentication(reading: FieldReading, value: string): HeadFault | null {
  if (connectionBound.test(value)) reading.connectionAuth = true
  return null
}
