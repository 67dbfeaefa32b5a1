/**
 * Owns the framing of bodies (RFC 9112 §6 and §7.1): fed bytes as they come, it says which of them
 * are content and where the message ends. Pure and incremental; chunk framing is taken off strictly,
 * so that what goes on is framed anew.
 */

import { noFields, type FieldReading } from './field-lines.ts'
import type { HeadLimits } from './head-fault.ts'
import { readTrailers, type BodyFraming } from './head.ts'

/** What feeding answered: where the body's bytes stop in the piece, or what was wrong. */
export type Fed = number | { readonly kind: 'fault'; readonly problem: string }

const cr = 0x0d
const lf = 0x0a
/** 16^12 bytes are more than any service sends, and far from where numbers lose precision. */
const maxSizeDigits = 12

/** Reads one body after the other; `begin` starts each. */
export class BodyReader {
  readonly #limits: HeadLimits
  #state:
    | 'idle'
    | 'length'
    | 'until-close'
    | 'size'
    | 'size-lf'
    | 'data'
    | 'data-cr'
    | 'data-lf'
    | 'trailers' = 'idle'
  /** Bytes of content until the body or the chunk ends. */
  #left = 0
  #digits = 0
  /** Whole trailer lines so far, and the one that comes in pieces; latin-1. */
  #lines = ''
  #line = ''
  #lineCount = 0
  #content: Buffer | null = null
  #trailers: FieldReading = noFields

  constructor(limits: HeadLimits) {
    this.#limits = limits
  }

  /** A body begins. One without content is over at once. */
  begin(framing: BodyFraming): void {
    this.#content = null
    this.#trailers = noFields
    switch (framing.kind) {
      case 'none':
        this.#state = 'idle'
        break
      case 'length':
        this.#left = framing.length
        this.#state = framing.length === 0 ? 'idle' : 'length'
        break
      case 'chunked':
        this.#beginSize()
        break
      case 'until-close':
        this.#state = 'until-close'
        break
    }
  }

  /** Whether the body goes on. */
  get open(): boolean {
    return this.#state !== 'idle'
  }

  /** Content of the piece that was fed last: a view into it, or null where it held none. */
  get content(): Buffer | null {
    return this.#content
  }

  /** The trailers of a body that is over. */
  get trailers(): FieldReading {
    return this.#trailers
  }

  /**
   * Takes the bytes of a piece as far as they belong to the body. The content of a piece is one
   * buffer however many chunks it came in: what lies between is overwritten, so the piece must be
   * the reader's own. Without that, a body of one-byte chunks would cost a system call a byte.
   */
  feed(piece: Buffer): Fed {
    this.#content = null
    switch (this.#state) {
      case 'idle':
        return 0
      case 'until-close':
        this.#content = piece
        return piece.length
      case 'length': {
        const end = Math.min(piece.length, this.#left)
        this.#left -= end
        if (this.#left === 0) this.#state = 'idle'
        if (end > 0) this.#content = end === piece.length ? piece : piece.subarray(0, end)
        return end
      }
      case 'size':
      case 'size-lf':
      case 'data':
      case 'data-cr':
      case 'data-lf':
      case 'trailers':
        return this.#feedChunked(piece)
    }
  }

  /** The connection ended: true when that is how this body ends, false when it was cut. */
  endOfInput(): boolean {
    if (this.#state !== 'until-close') return false
    this.#content = null
    this.#state = 'idle'
    return true
  }

  #feedChunked(piece: Buffer): Fed {
    let contentFrom = 0
    let contentEnd = 0
    let at = 0
    while (at < piece.length && this.#state !== 'idle') {
      if (this.#state === 'data') {
        const end = Math.min(piece.length, at + this.#left)
        if (contentEnd === contentFrom) contentFrom = contentEnd = at
        if (contentEnd !== at) piece.copyWithin(contentEnd, at, end)
        contentEnd += end - at
        this.#left -= end - at
        if (this.#left === 0) this.#state = 'data-cr'
        at = end
      } else if (this.#state === 'trailers') {
        const next = this.#takeTrailerLine(piece, at)
        if (typeof next !== 'number') return next
        at = next
      } else {
        const problem = this.#takeFraming(piece[at] as number)
        if (problem !== '') return { kind: 'fault', problem }
        at++
      }
    }
    if (contentEnd > contentFrom) this.#content = piece.subarray(contentFrom, contentEnd)
    return at
  }

  /** Takes one byte of a size line or of the CRLF behind a chunk; answers what is wrong with it. */
  #takeFraming(byte: number): string {
    switch (this.#state) {
      case 'size': {
        const digit = hexDigit(byte)
        if (digit >= 0 && this.#digits < maxSizeDigits) {
          this.#left = this.#left * 16 + digit
          this.#digits++
        } else if (byte === cr && this.#digits > 0) this.#state = 'size-lf'
        else return 'a chunk size is not plain hexadecimal (extensions are refused)'
        return ''
      }
      case 'size-lf':
        if (byte !== lf) return 'a chunk size line does not end with CRLF'
        this.#state = this.#left === 0 ? 'trailers' : 'data'
        return ''
      case 'data-cr':
        if (byte !== cr) return 'a chunk does not end with CRLF'
        this.#state = 'data-lf'
        return ''
      case 'data-lf':
        if (byte !== lf) return 'a chunk does not end with CRLF'
        this.#beginSize()
        return ''
      case 'idle':
      case 'length':
      case 'until-close':
      case 'data':
      case 'trailers':
        return ''
    }
  }

  #beginSize(): void {
    this.#state = 'size'
    this.#left = 0
    this.#digits = 0
    this.#lines = ''
    this.#line = ''
    this.#lineCount = 0
  }

  /** Takes the piece's part of one trailer line; an empty line ends the body. */
  #takeTrailerLine(piece: Buffer, at: number): Fed {
    const found = piece.indexOf(lf, at)
    const end = found < 0 ? piece.length : found + 1
    if (this.#lines.length + this.#line.length + end - at > this.#limits.maxBytes) {
      return { kind: 'fault', problem: 'the trailers are too large' }
    }
    this.#line += piece.toString('latin1', at, end)
    if (found < 0) return end
    if (!this.#line.endsWith('\r\n')) {
      return { kind: 'fault', problem: 'a trailer ends with a bare LF' }
    }
    if (this.#line !== '\r\n') {
      this.#lines += this.#line
      this.#line = ''
      this.#lineCount++
      return this.#lineCount <= this.#limits.maxFields
        ? end
        : { kind: 'fault', problem: `more than ${this.#limits.maxFields} trailers` }
    }
    const trailers = readTrailers(this.#lines, this.#limits)
    if ('kind' in trailers) return { kind: 'fault', problem: trailers.problem }
    this.#trailers = trailers
    this.#state = 'idle'
    return end
  }
}

/** The value of a hexadecimal digit; -1 for any other byte. */
function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1
}
