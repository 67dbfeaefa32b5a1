/**
 * Owns the framing of bodies (RFC 9112 §6 and §7.1): told of bytes as they come, it says which of
 * them are content and where the message ends. Pure and incremental; chunk framing is taken off
 * strictly, so that what goes on is framed anew.
 */

import { readTrailers, type BodyFraming, type Fields, type HeadLimits } from './head.ts'

/** Receives the parts of a body. */
export interface BodySink {
  /** Content; a view into the chunk that was fed. */
  onContent(content: Buffer): void
  /** The message is whole; trailers only after a chunked body. */
  onBodyEnd(trailers: Fields): void
}

/** What feeding answered: where it stopped, or what was wrong. */
export type Fed =
  /** Index of the first byte that is not part of the body; the chunk's length while it goes on. */
  number | { readonly kind: 'fault'; readonly problem: string }

const noFields: Fields = []
const longestSizeLine = 16

/** Reads one body after the other; `begin` starts each. */
export class BodyReader {
  readonly #sink: BodySink
  readonly #limits: HeadLimits
  #state: 'idle' | 'length' | 'until-close' | 'size' | 'data' | 'data-end' | 'trailers' = 'idle'
  #left = 0
  /** Bytes of a size line or trailer section that came in pieces, latin-1. */
  #text = ''

  constructor(sink: BodySink, limits: HeadLimits) {
    this.#sink = sink
    this.#limits = limits
  }

  /** A body begins. One without content ends at once. */
  begin(framing: BodyFraming): void {
    this.#text = ''
    switch (framing.kind) {
      case 'none':
        this.#finish(noFields)
        break
      case 'length':
        this.#left = framing.length
        this.#state = 'length'
        if (framing.length === 0) this.#finish(noFields)
        break
      case 'chunked':
        this.#state = 'size'
        break
      case 'until-close':
        this.#state = 'until-close'
        break
    }
  }

  /** Whether a body is under way. */
  get open(): boolean {
    return this.#state !== 'idle'
  }

  /** Takes bytes from `at` on. */
  feed(chunk: Buffer, at: number): Fed {
    let from = at
    while (from < chunk.length) {
      switch (this.#state) {
        case 'idle':
          return from
        case 'until-close':
          this.#sink.onContent(from === 0 ? chunk : chunk.subarray(from))
          return chunk.length
        case 'length':
        case 'data':
          from = this.#content(chunk, from)
          break
        case 'data-end':
        case 'size': {
          const next = this.#sizeLine(chunk, from)
          if (typeof next !== 'number') return next
          from = next
          break
        }
        case 'trailers': {
          const next = this.#trailerSection(chunk, from)
          if (typeof next !== 'number') return next
          from = next
          break
        }
      }
    }
    return from
  }

  /** The connection ended: true when that is how this body ends, false when it was cut. */
  endOfInput(): boolean {
    if (this.#state !== 'until-close') return this.#state === 'idle'
    this.#finish(noFields)
    return true
  }

  #content(chunk: Buffer, from: number): number {
    const end = Math.min(chunk.length, from + this.#left)
    this.#left -= end - from
    const whole = this.#left === 0
    const wasData = this.#state === 'data'
    if (whole && wasData) this.#state = 'data-end'
    this.#sink.onContent(from === 0 && end === chunk.length ? chunk : chunk.subarray(from, end))
    if (whole && !wasData) this.#finish(noFields)
    return end
  }

  /** The CRLF after a chunk's data, or a size line with its CRLF. */
  #sizeLine(chunk: Buffer, from: number): Fed {
    const lf = chunk.indexOf(0x0a, from)
    const end = lf < 0 ? chunk.length : lf + 1
    if (this.#text.length + end - from > longestSizeLine + 2) {
      return { kind: 'fault', problem: 'a chunk size line is too long (extensions are refused)' }
    }
    this.#text += chunk.toString('latin1', from, end)
    if (lf < 0) return chunk.length
    const line = this.#text
    this.#text = ''
    if (this.#state === 'data-end') {
      if (line !== '\r\n') return { kind: 'fault', problem: 'a chunk does not end with CRLF' }
      this.#state = 'size'
      return end
    }
    const size = /^([0-9a-fA-F]{1,12})\r\n$/.exec(line)?.[1]
    if (size === undefined)
      return { kind: 'fault', problem: 'a chunk size is not plain hexadecimal' }
    this.#left = Number.parseInt(size, 16)
    this.#state = this.#left === 0 ? 'trailers' : 'data'
    return end
  }

  #trailerSection(chunk: Buffer, from: number): Fed {
    // Ends with an empty line: at once for no trailers, after CRLFCRLF otherwise.
    for (let at = from; at < chunk.length;) {
      const lf = chunk.indexOf(0x0a, at)
      const end = lf < 0 ? chunk.length : lf + 1
      if (this.#text.length + end - at > this.#limits.maxBytes) {
        return { kind: 'fault', problem: 'the trailers are too large' }
      }
      this.#text += chunk.toString('latin1', at, end)
      at = end
      if (lf < 0) return at
      if (this.#text === '\r\n' || this.#text.endsWith('\r\n\r\n')) {
        const trailers = readTrailers(this.#text.slice(0, -4), this.#limits)
        if ('kind' in trailers) return { kind: 'fault', problem: trailers.problem }
        this.#finish(trailers)
        return at
      }
    }
    return chunk.length
  }

  #finish(trailers: Fields): void {
    this.#state = 'idle'
    this.#sink.onBodyEnd(trailers)
  }
}
