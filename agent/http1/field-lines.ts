/**
 * Owns the reading of field lines (RFC 9112 §5) and what they say about framing and connection.
 * Strict and pure: each line is a name, a colon at once, a value without control characters, CRLF.
 */

import { fault, type HeadFault, type HeadLimits } from './head-fault.ts'
import { verdictOn } from './hygiene.ts'
import { afterToken, afterValue, trimBlanks } from './octets.ts'
import { RecentMap } from './recent-map.ts'

/** A field line as parsed. */
export interface FieldLine {
  /** In lower case. */
  readonly name: string
  /** Without outer blanks. */
  readonly value: string
  /** As it goes on: name, value and CRLF. */
  readonly wire: string
  /** Where it may pass; see `hygiene.ts`. */
  readonly verdict: number
  /** What it says about its message, if anything. */
  readonly note: Note | undefined
}

/** Takes note of a field's value, or answers what is wrong with it. */
type Note = (reading: FieldReading, value: string) => HeadFault | null

/** What field lines say about their message. */
export class FieldReading {
  readonly fields: FieldLine[] = []
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

const colon = 0x3a
const lf = 0x0a
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

/**
 * Lines seen of late, of all connections: most lines of most messages are the same from one to the
 * next, and parsing one costs more than finding it. Secrets do not stay here.
 */
const recent = new RecentMap<FieldLine>(1024)
const secret: ReadonlySet<string> = new Set([
  'authorization',
  'proxy-authorization',
  'cookie',
  'set-cookie',
])
/** A line that is kept keeps the text it was cut from. */
const longestKeptText = 4096

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
  const { length } = text
  for (let at = from; at < length;) {
    const end = text.indexOf('\r', at)
    if (text.charCodeAt(end + 1) !== lf) return fault('bad-request', 'a bare CR in a field line')
    if (fields.length >= limits.maxFields) {
      return fault('head-too-large', `more than ${limits.maxFields} header fields`)
    }
    const raw = text.slice(at, end)
    let line = recent.get(raw)
    if (line === undefined) {
      const parsed = parseLine(raw)
      if ('kind' in parsed) return parsed
      line = parsed
      if (length <= longestKeptText && !secret.has(line.name)) recent.set(raw, line)
    }
    const problem = line.note === undefined ? null : line.note(reading, line.value)
    if (problem !== null) return problem
    fields.push(line)
    at = end + 2
  }
  if (reading.chunked && reading.contentLength >= 0) {
    return fault('bad-request', 'both Content-Length and Transfer-Encoding')
  }
  return reading
}

/** The value of the first line of that name; empty where there is none. */
export function valueOf(fields: readonly FieldLine[], name: string): string {
  for (const line of fields) if (line.name === name) return line.value
  return ''
}

function parseLine(raw: string): FieldLine | HeadFault {
  const nameEnd = afterToken(raw, 0)
  if (nameEnd === 0 || raw.charCodeAt(nameEnd) !== colon) {
    return fault('bad-request', 'a field line does not begin with a name and a colon')
  }
  if (afterValue(raw, nameEnd + 1) < raw.length) {
    return fault('bad-request', 'a control character or bare LF in a field line')
  }
  const name = raw.slice(0, nameEnd).toLowerCase()
  const value = trimBlanks(raw, nameEnd + 1, raw.length)
  return {
    name,
    value,
    wire: `${name}: ${value}\r\n`,
    verdict: verdictOn(name),
    note: notes.get(name),
  }
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
  const options = value.includes(',') ? value.split(',') : [value]
  for (const part of options) {
    const option = trimBlanks(part, 0, part.length).toLowerCase()
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
