/**
 * Owns the reading of field lines (RFC 9112 §5), strictly and in one pass over the bytes. Lines of
 * no interest to the mesh cost no more than being looked at: only what `field-kinds.ts` knows, and
 * lines with unusual white space, are noted. It interprets nothing.
 */

import { colon, cr, isBlank, lf, space, tokenBytes, valueBytes } from './bytes.ts'
import { kindOf, kinds, type FieldKind } from './field-kinds.ts'
import { needsMore, refused, type HeadFault, type HeadLimits } from './head.ts'

/** Numbers a note consists of: kind, tidiness, and four places in the text. */
const stride = 6

/** One section, used again and again. */
export class FieldSection {
  /** The whole head, latin-1, up to and with the empty line; set by `keep`. */
  text = ''
  /** Where the first field line begins in the text. */
  start = 0
  fault: HeadFault = nothingWrong
  #notes: number[] = []
  #noted = 0
  #readFrom = 0

  /**
   * Reads lines up to the empty one.
   * @param at where they begin
   * @param base where the head began: places are counted, and its size measured, from here
   * @returns the index after the empty line, `needsMore`, or `refused` with {@link fault} set
   */
  read(bytes: Buffer, at: number, base: number, limits: HeadLimits): number {
    const { length } = bytes
    const most = base + limits.maxBytes
    let left = limits.maxFields
    this.#noted = 0
    this.#readFrom = base
    this.start = at - base
    for (;;) {
      if (at >= length) return needsMore
      const lineStart = at
      let byte = bytes[at] as number
      if (byte === cr) {
        if (at + 1 >= length) return needsMore
        return bytes[at + 1] === lf ? at + 2 : this.refuse('a bare CR in the head')
      }
      while (tokenBytes[byte] === 1) {
        if (++at >= length) return needsMore
        byte = bytes[at] as number
      }
      if (byte !== colon || at === lineStart) {
        return this.refuse('a field line does not begin with a name and a colon')
      }
      const nameEnd = at++
      while (at < length && isBlank(bytes[at])) at++
      const valueStart = at
      if (at >= length) return needsMore
      byte = bytes[at] as number
      while (valueBytes[byte] === 1) {
        if (++at >= length) return needsMore
        byte = bytes[at] as number
      }
      if (byte !== cr) return this.refuse('a control character or bare LF in a field')
      if (at + 1 >= length) return needsMore
      if (bytes[at + 1] !== lf) return this.refuse('a bare CR in a field')
      let valueEnd = at
      while (valueEnd > valueStart && isBlank(bytes[valueEnd - 1])) valueEnd--
      const tidy =
        valueEnd === at &&
        (valueEnd === valueStart
          ? valueStart === nameEnd + 1
          : valueStart === nameEnd + 2 && bytes[nameEnd + 1] === space)
      at += 2
      if (at > most) return this.refuseSize(`the head is larger than ${limits.maxBytes} bytes`)
      if (--left < 0) return this.refuseSize(`more than ${limits.maxFields} header fields`)
      const kind = kindOf(bytes, lineStart, nameEnd)
      if (kind !== kinds.plain || !tidy) {
        this.#note(kind, tidy, lineStart, valueStart, valueEnd, at)
      }
    }
  }

  /** Takes the text of what was read; the bytes may go. */
  keep(bytes: Buffer, end: number): void {
    this.text = bytes.toString('latin1', this.#readFrom, end)
  }

  /** Forgets the text, so that an idle connection holds none. */
  forget(): void {
    this.text = ''
    this.#noted = 0
  }

  /** How many lines were noted. */
  get noted(): number {
    return this.#noted / stride
  }

  kindAt(index: number): FieldKind {
    return this.#notes[index * stride] as FieldKind
  }

  isTidy(index: number): boolean {
    return this.#notes[index * stride + 1] === 1
  }

  lineStartAt(index: number): number {
    return this.#notes[index * stride + 2] as number
  }

  lineEndAt(index: number): number {
    return this.#notes[index * stride + 5] as number
  }

  /** The value of a noted line without white space around it. */
  valueAt(index: number): string {
    const at = index * stride
    return this.text.slice(this.#notes[at + 3], this.#notes[at + 4])
  }

  /** Whether white space stands behind the value of a noted line. */
  isPaddedAt(index: number): boolean {
    const at = index * stride
    return (this.#notes[at + 4] as number) + 2 !== this.#notes[at + 5]
  }

  /** A field's value by name, those of repeated lines joined by `, `; null where there is none. */
  value(name: string): string | null {
    const wanted = name.toLowerCase()
    let found: string | null = null
    this.eachLine((lineName, lineValue) => {
      if (lineName === wanted) found = found === null ? lineValue : `${found}, ${lineValue}`
    })
    return found
  }

  /** Every line, names in lower case. Not for the hot path. */
  eachLine(visit: (name: string, value: string, lineStart: number, lineEnd: number) => void): void {
    const { text } = this
    for (let at = this.start; at < text.length - 2;) {
      const end = text.indexOf('\r\n', at)
      const mark = text.indexOf(':', at)
      visit(text.slice(at, mark).toLowerCase(), trimBlanks(text.slice(mark + 1, end)), at, end + 2)
      at = end + 2
    }
  }

  /** Notes every line with one of these names as nominated, among the notes there are. */
  nominate(names: ReadonlySet<string>): void {
    const before = this.#notes.slice(0, this.#noted)
    let next = 0
    this.#noted = 0
    this.eachLine((name, _value, lineStart, lineEnd) => {
      const wasNoted = next < before.length && before[next + 2] === lineStart
      if (wasNoted) {
        const [kind, tidy, , valueStart, valueEnd] = before.slice(next, next + stride)
        next += stride
        this.#noteAt(
          isCarried(kind as FieldKind) && names.has(name) ? kinds.nominated : (kind as FieldKind),
          tidy === 1,
          lineStart,
          valueStart as number,
          valueEnd as number,
          lineEnd,
        )
      } else if (names.has(name)) {
        this.#noteAt(kinds.nominated, true, lineStart, lineStart, lineStart, lineEnd)
      }
    })
  }

  /** Sets the fault; answers `refused`. */
  refuse(problem: string, reason: HeadFault['reason'] = 'bad-request'): number {
    this.fault = { reason, problem }
    return refused
  }

  /** The same for a head that is too large. */
  refuseSize(problem: string): number {
    return this.refuse(problem, 'head-too-large')
  }

  /** Notes a line by places in the bytes. */
  #note(
    kind: FieldKind,
    tidy: boolean,
    lineStart: number,
    valueStart: number,
    valueEnd: number,
    lineEnd: number,
  ): void {
    const base = this.#readFrom
    this.#noteAt(kind, tidy, lineStart - base, valueStart - base, valueEnd - base, lineEnd - base)
  }

  #noteAt(
    kind: FieldKind,
    tidy: boolean,
    lineStart: number,
    valueStart: number,
    valueEnd: number,
    lineEnd: number,
  ): void {
    const notes = this.#notes
    const at = this.#noted
    // Written in place: an array that is emptied and filled again would be allocated anew each time.
    notes[at] = kind
    notes[at + 1] = tidy ? 1 : 0
    notes[at + 2] = lineStart
    notes[at + 3] = valueStart
    notes[at + 4] = valueEnd
    notes[at + 5] = lineEnd
    this.#noted = at + stride
  }
}

/** Whether lines of a kind may pass where nobody names them. */
function isCarried(kind: FieldKind): boolean {
  return (
    kind === kinds.plain ||
    kind === kinds.authentication ||
    kind === kinds.forwarding ||
    kind === kinds.identity
  )
}

const nothingWrong: HeadFault = { reason: 'bad-request', problem: '' }

/** Text without spaces and tabs at its ends; other white space is not OWS (RFC 9110 §5.6.3). */
function trimBlanks(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isBlank(text.charCodeAt(start))) start++
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}
