/**
 * Owns the reading of field lines (RFC 9112 §5) and what they say about framing and connection.
 * Strict and pure: each line is a name, a colon at once, a value without control characters, CRLF.
 */

import { fault, type HeadFault, type HeadLimits } from './head-fault.ts'
import { passes, plainRule, ruleFor, type Origin } from './hygiene.ts'
import { afterBlanks, afterToken, afterValue, beforeBlanks, trimBlanks } from './octets.ts'

/** A mark: the verdict, then where the line and its value begin, and where they end. */
const stride = 5
/** In a mark's verdict: the line is written anew, its white space being unusual. */
const untidy = 16

/** Takes note of a field's value, which begins at a place of the text, or answers what is wrong with it. */
type Note = (reading: FieldReading, value: string, at: number) => HeadFault | null

/**
 * A field section as it was read, and what it says about its message. Lines that mean nothing to the
 * mesh and are plainly written cost no more than being looked at; only the others are marked. Once
 * read it stays as it is, and may serve any number of messages with the same section.
 */
export class FieldReading {
  /** Latin-1, each line with its CRLF; the section is its end. */
  readonly text: string
  /** Where the section begins. */
  readonly from: number
  /** Per marked line, `stride` numbers. */
  readonly marks: number[] = []
  host: string | null = null
  /** Whether the host is one, with an optional port, or empty. */
  hostIsSound = true
  /** -1 where there is none. */
  contentLength = -1
  chunked = false
  close = false
  keepAlive = false
  upgradeNamed = false
  upgrade = ''
  expectsContinue = false
  connectionAuth = false
  requestId = ''
  /** Where it stands in the text; -1 where there is none, -2 where there are several. */
  requestIdAt = -1
  meshReason = ''
  nominated: Set<string> | null = null
  /** The section without the lines that `Connection` named. */
  endToEnd: FieldReading = this
  readonly #section: string
  /** The section around the request's id, once it is asked for. */
  #before: string | null = null
  #after: string | null = null
  #passing = ''
  #passingFrom: Origin | null = null

  constructor(text: string, from: number) {
    this.text = text
    this.from = from
    this.#section = text.slice(from)
  }

  /** Whether a text holds the very same section from there on. */
  isAgain(text: string, from: number): boolean {
    return text.slice(from) === this.#section
  }

  /**
   * The request's id, where a text holds the same section from there on but for another id as long: so do
   * a peer agent's requests, one after the other. Null for any other section.
   */
  idOfNext(text: string, from: number): string | null {
    const { requestId, requestIdAt } = this
    if (requestIdAt < 0 || text.length - from !== this.#section.length) return null
    const before = requestIdAt - this.from
    const after = before + requestId.length
    this.#before ??= this.#section.slice(0, before)
    this.#after ??= this.#section.slice(after)
    if (!text.startsWith(this.#before, from) || !text.endsWith(this.#after)) return null
    const id = text.slice(from + before, from + after)
    return idShape.test(id) ? id : null
  }

  /** The lines that may pass, as they came or, where that was unusual, written anew. */
  passingLines(origin: Origin): string {
    if (this.#passingFrom !== origin) {
      this.#passing = passingOf(this, origin)
      this.#passingFrom = origin
    }
    return this.#passing
  }
}

/** A name, IPv4 or bracketed IPv6, and a port (RFC 3986 §3.2) without what no host has. */
export const hostShape = /^(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/

/** Nothing in such an id can be taken for the end of its line. */
const idShape = /^[\x21-\x7e]+$/
const colon = 0x3a
const space = 0x20
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
  ['x-request-id', noteRequestId],
  ['x-mesh-reason', noteMeshReason],
])

/**
 * Reads field lines.
 * @param text latin-1, every line with its CRLF
 * @param from where the first line begins
 * @param last what was read before on the same way under the same limits: most senders say the same
 *   fields again and again, and knowing a section again costs less than reading it
 */
export function readFields(
  text: string,
  from: number,
  limits: HeadLimits,
  last: FieldReading | null = null,
): FieldReading | HeadFault {
  if (last?.isAgain(text, from) === true) return last
  const reading = readSection(text, from, limits)
  if (reading instanceof FieldReading && reading.nominated !== null) {
    reading.endToEnd = without(reading, reading.nominated)
  }
  return reading
}

function readSection(text: string, from: number, limits: HeadLimits): FieldReading | HeadFault {
  const reading = new FieldReading(text, from)
  const { marks } = reading
  let left = limits.maxFields
  for (let at = from; at < text.length;) {
    const nameEnd = afterToken(text, at)
    if (nameEnd === at || text.charCodeAt(nameEnd) !== colon) {
      return fault('bad-request', 'a field line does not begin with a name and a colon')
    }
    const valueFrom = afterBlanks(text, nameEnd + 1)
    const valueEnd = afterValue(text, valueFrom)
    if (!text.startsWith('\r\n', valueEnd)) {
      return fault('bad-request', 'a control character, bare CR or bare LF in a field line')
    }
    if (--left < 0) return fault('head-too-large', `more than ${limits.maxFields} header fields`)
    const valueTo = beforeBlanks(text, valueFrom, valueEnd)
    const isTidy =
      valueTo === valueEnd && valueFrom === nameEnd + 2 && text.charCodeAt(nameEnd + 1) === space
    const rule = ruleFor(text, at, nameEnd)
    if (rule !== plainRule || !isTidy) {
      marks.push(
        isTidy ? rule.verdict : rule.verdict | untidy,
        at,
        valueFrom,
        valueTo,
        valueEnd + 2,
      )
      const note = rule.name === '' ? undefined : notes.get(rule.name)
      const problem = note?.(reading, text.slice(valueFrom, valueTo), valueFrom) ?? null
      if (problem !== null) return problem
    }
    at = valueEnd + 2
  }
  if (reading.chunked && reading.contentLength >= 0) {
    return fault('bad-request', 'both Content-Length and Transfer-Encoding')
  }
  return reading
}

function passingOf({ text, from, marks }: FieldReading, origin: Origin): string {
  let passing = ''
  let run = from
  for (let i = 0; i < marks.length; i += stride) {
    const verdict = marks[i] as number
    const stays = !passes(verdict, origin)
    if (!stays && verdict < untidy) continue
    const start = marks[i + 1] as number
    if (start > run) passing += text.slice(run, start)
    run = marks[i + 4] as number
    if (stays) continue
    const name = text.slice(start, text.indexOf(':', start))
    passing += `${name}: ${text.slice(marks[i + 2], marks[i + 3])}\r\n`
  }
  return passing + text.slice(run)
}

/** A field section, read or not. */
export type Section = Pick<FieldReading, 'text' | 'from'>

/** Every line: its name in lower case, and its value. Not for the hot path. */
export function linesOf(fields: Section): readonly (readonly [name: string, value: string])[] {
  const lines: (readonly [string, string])[] = []
  const { text } = fields
  for (let at = fields.from; at < text.length;) {
    const nameEnd = text.indexOf(':', at)
    const end = text.indexOf('\r', nameEnd)
    lines.push([text.slice(at, nameEnd).toLowerCase(), trimBlanks(text, nameEnd + 1, end)])
    at = end + 2
  }
  return lines
}

/** The first value of a field; empty where there is none. Not for the hot path. */
export function valueOf(fields: Section, name: string): string {
  return linesOf(fields).find(([known]) => known === name)?.[1] ?? ''
}

/** A section without the lines that have one of these names. */
function without(fields: Section, names: ReadonlySet<string>): FieldReading {
  let text = ''
  for (const [name, value] of linesOf(fields)) {
    if (!names.has(name)) text += `${name}: ${value}\r\n`
  }
  const kept = readSection(text, 0, { maxBytes: Infinity, maxFields: Infinity })
  return kept instanceof FieldReading ? kept : noFields
}

/** A section without lines. */
export const noFields = new FieldReading('', 0)

function noteHost(reading: FieldReading, value: string): HeadFault | null {
  if (reading.host !== null) return fault('bad-request', 'more than one Host field')
  reading.host = value
  reading.hostIsSound = value === '' || hostShape.test(value)
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
      // Hop-by-hop in any case.
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

function noteRequestId(reading: FieldReading, value: string, at: number): HeadFault | null {
  reading.requestIdAt = reading.requestIdAt === -1 ? at : -2
  if (reading.requestId === '') reading.requestId = value
  return null
}

function noteMeshReason(reading: FieldReading, value: string): HeadFault | null {
  if (reading.meshReason === '') reading.meshReason = value
  return null
}
