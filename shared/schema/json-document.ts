/**
 * Owns the way from the bytes of a JSON file to a value whose every part still knows its line and
 * column. Bounded: 64 KiB and 32 levels. What the value means is for the schemas.
 */

import { isUtf8 } from 'node:buffer'
import { readJson, type JsonReading, type JsonValue } from './json-reader.ts'
import type { Problem, Report } from './problem.ts'

/** Largest document, bytes. */
export const maxDocumentBytes = 64 * 1024

/** A document that was read whole. */
export class JsonDocument {
  readonly file: string
  readonly value: JsonValue
  readonly #lines: LineIndex
  readonly #reading: JsonReading

  constructor(file: string, text: string, reading: JsonReading) {
    this.file = file
    this.value = reading.value
    this.#lines = new LineIndex(text)
    this.#reading = reading
  }

  /** Whether the document itself has a value there. */
  has(pointer: string): boolean {
    return this.#reading.values.has(pointer)
  }

  /** Makes a problem that names the place of a pointer, or of the nearest value above it. */
  problem(pointer: string, fault: Parameters<Report>[1]): Problem {
    const { rule, message, hint = '', at = 'value' } = fault
    return {
      file: this.file,
      ...this.#lines.at(this.#offset(pointer, at)),
      path: pointer,
      rule,
      message,
      hint,
    }
  }

  /** Where a value stands, from 1. */
  placeOf(pointer: string): { readonly line: number; readonly column: number } {
    return this.#lines.at(this.#offset(pointer, 'value'))
  }

  #offset(pointer: string, at: 'key' | 'value'): number {
    const { keys, values } = this.#reading
    const key = at === 'key' ? keys.get(pointer) : undefined
    if (key !== undefined) return key
    for (let above = pointer; ; above = above.slice(0, above.lastIndexOf('/'))) {
      const value = values.get(above)
      if (value !== undefined) return value
      if (above === '') return 0
    }
  }
}

/** What reading a document answers. */
export type DocumentReading =
  | { readonly ok: true; readonly document: JsonDocument }
  | { readonly ok: false; readonly problems: readonly Problem[] }

/** Reads the bytes of `file`. Never throws on any input. */
export function readDocument(file: string, bytes: Uint8Array): DocumentReading {
  if (bytes.length > maxDocumentBytes) {
    const message = `${bytes.length} bytes are more than the ${maxDocumentBytes} a file may have`
    return refuse({ file, line: 0, column: 0, path: '', rule: 'too-large', message, hint: '' })
  }
  if (!isUtf8(bytes)) {
    const place = firstBadByte(bytes)
    const message = 'a byte here is not UTF-8'
    return refuse({
      file,
      ...place,
      path: '',
      rule: 'not-utf8',
      message,
      hint: 'save the file as UTF-8',
    })
  }
  // A byte order mark is dropped by the decoder; editors that write one mean no harm.
  const text = new TextDecoder().decode(bytes)
  const reading = readJson(text)
  if (reading.faults.length === 0) {
    return { ok: true, document: new JsonDocument(file, text, reading) }
  }
  const lines = new LineIndex(text)
  const problems = reading.faults.map(({ offset, pointer, rule, message, hint }) => ({
    file,
    ...lines.at(offset),
    path: pointer,
    rule,
    message,
    hint,
  }))
  return { ok: false, problems }
}

function refuse(problem: Problem): DocumentReading {
  return { ok: false, problems: [problem] }
}

interface Place {
  readonly line: number
  readonly column: number
}

function firstBadByte(bytes: Uint8Array): Place {
  let start = 0
  for (let line = 1; ; line += 1) {
    const newline = bytes.indexOf(0x0a, start)
    const row = bytes.subarray(start, newline === -1 ? bytes.length : newline)
    if (!isUtf8(row)) {
      const column = new TextDecoder('utf-8', { ignoreBOM: true }).decode(row).indexOf('\ufffd') + 1
      return { line, column }
    }
    start = newline + 1
  }
}

class LineIndex {
  /** Offset of the first character of each line. */
  readonly #starts: readonly number[]

  constructor(text: string) {
    const starts = [0]
    for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) {
      starts.push(at + 1)
    }
    this.#starts = starts
  }

  at(offset: number): Place {
    const after = this.#starts.findIndex((start) => start > offset)
    const line = after === -1 ? this.#starts.length : after
    return { line, column: offset - (this.#starts[line - 1] ?? 0) + 1 }
  }
}
