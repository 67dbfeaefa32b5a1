/**
 * Owns the reading of field lines (RFC 9112 §5) and what they say about framing and connection.
 * Strict and pure: each line is a name, a colon at once, a value without control characters, CRLF.
 */

import { fault, type HeadFault, type HeadLimits } from './head-fault.ts'
import { passes, plainRule, ruleFor, type Origin } from './hygiene.ts'
import { afterBlanks, afterToken, afterValue, beforeBlanks, trimBlanks } from './octets.ts'

/**
 * A field section as it was read. Lines that mean nothing to the mesh and are plainly written cost
 * no more than being looked at; only the others are marked.
 */
export interface Fields {
  /** Latin-1, each line with its CRLF; the section is its end. */
  readonly text: string
  /** Where the section begins. */
  readonly from: number
  /** Per marked line, `stride` numbers. */
  readonly marks: readonly number[]
}

/** A mark: the verdict, then where the line and its value begin, and where they end. */
const stride = 5
/** In a mark's verdict: the line is written anew, its white space being unusual. */
const untidy = 16

/** Takes note of a field's value, or answers what is wrong with it. */
type Note = (reading: FieldReading, value: string) => HeadFault | null

/** What field lines say about their message. */
export class FieldReading implements Fields {
  readonly text: string
  readonly from: number
  readonly marks: number[] = []
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
  requestId = ''
  meshReason = ''
  nominated: Set<string> | null = null

  constructor(text: string, from: number) {
    this.text = text
    this.from = from
  }
}

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
 */
export function readFields(
  text: string,
  from: number,
  limits: HeadLimits,
): FieldReading | HeadFault {
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
      const problem = note?.(reading, text.slice(valueFrom, valueTo)) ?? null
      if (problem !== null) return problem
    }
    at = valueEnd + 2
  }
  if (reading.chunked && reading.contentLength >= 0) {
    return fault('bad-request', 'both Content-Length and Transfer-Encoding')
  }
  return reading
}

/** The lines that may pass, as they came or, where that was unusual, written anew. */
export function passingLines(fields: Fields, origin: Origin): string {
  const { text, marks } = fields
  let passing = ''
  let run = fields.from
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

/** Every line: its name in lower case, and its value. Not for the hot path. */
export function linesOf(fields: Fields): readonly (readonly [name: string, value: string])[] {
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
export function valueOf(fields: Fields, name: string): string {
  return linesOf(fields).find(([known]) => known === name)?.[1] ?? ''
}

/** A section without the lines that have one of these names. */
export function without(fields: Fields, names: ReadonlySet<string>): Fields {
  let text = ''
  for (const [name, value] of linesOf(fields)) {
    if (!names.has(name)) text += `${name}: ${value}\r\n`
  }
  const kept = readFields(text, 0, { maxBytes: Infinity, maxFields: Infinity })
  return kept instanceof FieldReading ? kept : noFields
}

/** A section without lines. */
export const noFields: Fields = { text: '', from: 0, marks: [] }

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

function noteRequestId(reading: FieldReading, value: string): HeadFault | null {
  if (reading.requestId === '') reading.requestId = value
  return null
}

function noteMeshReason(reading: FieldReading, value: string): HeadFault | null {
  if (reading.meshReason === '') reading.meshReason = value
  return null
}
