/**
 * Owns the end of bodies (RFC 9112 §6, §7.1): told of bytes as they come, it says which of them go
 * on and where the message ends. Chunk framing is checked to the last byte; size lines that are not
 * plainly written are written anew, extensions are refused, trailers are sifted. Pure, incremental.
 */

import { cr, hexValues, lf } from './bytes.ts'
import { kindOf } from './field-kinds.ts'
import { FieldSection } from './field-section.ts'
import type { Framing, HeadLimits } from './head.ts'
import { trailerPasses } from './hygiene.ts'

/** Receives what goes on of a body. */
export interface BodySink {
  /** Bytes as they came: a view into the chunk that was read. */
  onBody(piece: Buffer): void
  /** Framing that is written anew, latin-1. */
  onBodyText(text: string): void
}

/** How the body goes on: with its chunk framing, or as content alone. */
export type BodyForm = 'framed' | 'content'

type State =
  | 'whole'
  | 'until-close'
  | 'length'
  | 'size'
  | 'size-lf'
  | 'data'
  | 'data-cr'
  | 'data-lf'
  | 'trailers'

/** Hexadecimal digits of a chunk's size; eight, less a bit, are 2 GiB. */
const mostDigits = 16
const mostChunk = 0x7fff_ffff
/** Trailers are rare and small. */
const mostTrailerBytes = 8192

/** Reads one body after the other; `begin` starts each. */
export class BodyReader {
  readonly #sink: BodySink
  readonly #limits: HeadLimits
  #state: State = 'whole'
  #isFramed = true
  /** Bytes left of the body or chunk. */
  #left = 0
  #digits = 0
  #size = 0
  #trailers = ''
  /** Names of trailers that end at this hop by the message's own word. */
  #nominated: ReadonlySet<string> | null = null
  #problem = ''

  constructor(parts: { readonly sink: BodySink }, limits: HeadLimits) {
    this.#sink = parts.sink
    this.#limits = limits
  }

  /** Whether the whole body has been read. */
  get isWhole(): boolean {
    return this.#state === 'whole'
  }

  /** What was wrong where `read` answered -1. */
  get problem(): string {
    return this.#problem
  }

  /** A body begins. `length` is for framing `length`, and then not 0. */
  begin(
    framing: Framing,
    length: number,
    form: BodyForm,
    nominated: ReadonlySet<string> | null = null,
  ): void {
    this.#nominated = nominated
    this.#isFramed = form === 'framed'
    switch (framing) {
      case 'none':
        this.#state = 'whole'
        break
      case 'length':
        this.#state = 'length'
        this.#left = length
        break
      case 'chunked':
        this.#startSize()
        break
      case 'until-close':
        this.#state = 'until-close'
        break
    }
  }

  /** The connection has ended: whether that is how this body ends. */
  endOfInput(): boolean {
    if (this.#state === 'until-close') this.#state = 'whole'
    return this.#state === 'whole'
  }

  /**
   * Takes bytes.
   * @returns the index of the first byte beyond the body, the chunk's length while it goes on, or
   * -1 with {@link problem} set
   */
  read(bytes: Buffer, at: number): number {
    switch (this.#state) {
      case 'whole':
        return at
      case 'until-close':
        this.#pass(bytes, at, bytes.length)
        return bytes.length
      case 'length': {
        const end = Math.min(bytes.length, at + this.#left)
        this.#left -= end - at
        if (this.#left === 0) this.#state = 'whole'
        this.#pass(bytes, at, end)
        return end
      }
      case 'size':
      case 'size-lf':
      case 'data':
      case 'data-cr':
      case 'data-lf':
      case 'trailers':
        return this.#readChunks(bytes, at)
    }
  }

  /**
   * Reads chunks. A run is what can go on as it came; it is cut where a size line must be written
   * anew because it was split between two reads or begins with zeros.
   */
  #readChunks(bytes: Buffer, from: number): number {
    const { length } = bytes
    let at = from
    let run = this.#digits > 0 || this.#state === 'trailers' ? -1 : from
    let sizeLine = -1
    while (at < length) {
      switch (this.#state) {
        case 'size': {
          if (this.#digits === 0) sizeLine = at
          const value = hexValues[bytes[at] as number] as number
          if (value < 16) {
            this.#size = this.#size * 16 + value
            if (++this.#digits > mostDigits || this.#size > mostChunk) {
              return this.#refuse('a chunk is larger than 2 GiB')
            }
          } else if (bytes[at] === cr && this.#digits > 0) this.#state = 'size-lf'
          else return this.#refuse('a chunk size is not plain hexadecimal')
          at++
          break
        }
        case 'size-lf': {
          if (bytes[at++] !== lf) return this.#refuse('a chunk size does not end with CRLF')
          if (this.#size === 0) {
            if (run >= 0 && this.#digits === 1 && bytes[at] === cr && bytes[at + 1] === lf) {
              this.#state = 'whole'
              this.#passFramed(bytes, run, at + 2)
              return at + 2
            }
            if (run >= 0) this.#passFramed(bytes, run, sizeLine)
            run = -1
            this.#trailers = ''
            this.#state = 'trailers'
            break
          }
          if (run < 0 || !isPlain(this.#size, this.#digits)) {
            if (run >= 0) this.#passFramed(bytes, run, sizeLine)
            this.#text(`${this.#size.toString(16)}\r\n`)
            run = at
          }
          this.#left = this.#size
          this.#digits = 0
          this.#state = 'data'
          break
        }
        case 'data': {
          const end = Math.min(length, at + this.#left)
          this.#left -= end - at
          if (this.#left === 0) this.#state = 'data-cr'
          if (!this.#isFramed) this.#pass(bytes, at, end)
          at = end
          break
        }
        case 'data-cr':
          if (bytes[at++] !== cr) return this.#refuse('a chunk does not end with CRLF')
          this.#state = 'data-lf'
          break
        case 'data-lf':
          if (bytes[at++] !== lf) return this.#refuse('a chunk does not end with CRLF')
          this.#startSize()
          break
        case 'trailers':
          at = this.#readTrailers(bytes, at)
          if (at < 0 || this.isWhole) return at
          break
        case 'whole':
        case 'until-close':
        case 'length':
          return at
      }
    }
    // A size line that is not complete yet waits; it will be written anew.
    if (run >= 0) this.#passFramed(bytes, run, this.#digits > 0 ? sizeLine : length)
    return length
  }

  #startSize(): void {
    this.#state = 'size'
    this.#digits = this.#size = 0
  }

  /** Gathers lines until the empty one. */
  #readTrailers(bytes: Buffer, from: number): number {
    let at = from
    while (at < bytes.length) {
      const newline = bytes.indexOf(lf, at)
      const end = newline < 0 ? bytes.length : newline + 1
      if (this.#trailers.length + end - at > mostTrailerBytes) {
        return this.#refuse('the trailers are too large')
      }
      this.#trailers += bytes.toString('latin1', at, end)
      at = end
      if (newline >= 0 && !this.#trailers.endsWith('\r\n')) {
        return this.#refuse('a bare LF in the trailers')
      }
      if (this.#trailers !== '\r\n' && !this.#trailers.endsWith('\r\n\r\n')) continue
      const kept = this.#siftTrailers()
      if (kept === null) return -1
      this.#text(`0\r\n${kept}\r\n`)
      this.#state = 'whole'
      this.#digits = 0
      this.#trailers = ''
      return at
    }
    return at
  }

  /** The trailers that may go on, or null where they are no field lines. */
  #siftTrailers(): string | null {
    if (this.#trailers === '\r\n') return ''
    const bytes = Buffer.from(this.#trailers, 'latin1')
    const section = new FieldSection()
    const end = section.read(bytes, 0, 0, this.#limits)
    if (end !== bytes.length) {
      this.#refuse(end < 0 ? section.fault.problem : 'the trailers are not field lines')
      return null
    }
    section.keep(bytes, end)
    let kept = ''
    section.eachLine((name, value, start) => {
      const kind = kindOf(bytes, start, start + name.length)
      if (trailerPasses(kind, name) && this.#nominated?.has(name) !== true) {
        kept += `${name}: ${value}\r\n`
      }
    })
    return kept
  }

  #passFramed(bytes: Buffer, from: number, end: number): void {
    if (this.#isFramed) this.#pass(bytes, from, end)
  }

  #pass(bytes: Buffer, from: number, end: number): void {
    if (end === from) return
    this.#sink.onBody(from === 0 && end === bytes.length ? bytes : bytes.subarray(from, end))
  }

  #text(text: string): void {
    if (this.#isFramed) this.#sink.onBodyText(text)
  }

  #refuse(problem: string): number {
    this.#problem = problem
    return -1
  }
}

/** Whether a size of so many digits was written without leading zeros. */
function isPlain(size: number, digits: number): boolean {
  return size >= 16 ** (digits - 1)
}
