/**
 * Owns the writing of HPACK header blocks (RFC 7541 §6) of one direction of a connection: a field
 * that was sent before is one or two bytes. Bounded by the peer's table size and our own. Values
 * that are secret or that rarely repeat stay out of the table.
 */

import { DynamicTable } from './hpack-dynamic-table.ts'
import { type HeaderField, fieldBytes } from './header-field.ts'
import { huffmanBytes, huffmanEncode } from './hpack-huffman.ts'
import { firstDynamicIndex, staticTable } from './hpack-static-table.ts'

/** Largest table an encoder uses, whatever the peer allows, bytes. */
const maxTableBytes = 4096

/** Names whose values would only push better entries out. */
const passing: ReadonlySet<string> = new Set([
  ':path',
  'age',
  'content-length',
  'content-range',
  'date',
  'etag',
  'expires',
  'if-modified-since',
  'if-none-match',
  'last-modified',
  'location',
  'range',
  'x-request-id',
])

/** Names that are secret wherever they come from. */
const secret: ReadonlySet<string> = new Set([
  'authorization',
  'cookie',
  'proxy-authorization',
  'set-cookie',
])

/** Where a name stands in the tables. */
interface NameEntry {
  /** Its index in the static table, or 0. */
  readonly staticIndex: number
  readonly staticValues: ReadonlyMap<string, number>
  /** Insertion numbers by value. */
  readonly values: Map<string, number>
}

function staticNames(): Map<string, NameEntry> {
  const names = new Map<string, NameEntry>()
  const valuesOf = new Map<string, Map<string, number>>()
  staticTable.forEach(({ name, value }, index) => {
    if (index === 0) return
    const values = valuesOf.get(name) ?? new Map<string, number>()
    valuesOf.set(name, values.set(value, index))
    if (!names.has(name)) {
      names.set(name, { staticIndex: index, staticValues: values, values: new Map() })
    }
  })
  return names
}

/** Writes the blocks of a connection in their order. */
export class HpackEncoder {
  readonly #names = staticNames()
  readonly #table: DynamicTable
  #limitBytes = maxTableBytes
  /** Smallest limit since the last block, which the peer must hear of (RFC 7541 §4.2), or null. */
  #resizedTo: number | null = null
  #out = Buffer.allocUnsafeSlow(1024)
  #at = 0

  constructor() {
    const onEvicted = (field: HeaderField, number: number): void => this.#forget(field, number)
    this.#table = new DynamicTable({ onEvicted }, { maxBytes: maxTableBytes })
  }

  /** Takes the peer's SETTINGS_HEADER_TABLE_SIZE, bytes. */
  setPeerTableBytes(bytes: number): void {
    const limit = Math.min(bytes, maxTableBytes)
    if (limit === this.#limitBytes) return
    this.#limitBytes = limit
    this.#resizedTo = Math.min(limit, this.#resizedTo ?? limit)
    this.#table.resize(limit)
  }

  /** Writes one block. The answer is valid until the next call. */
  encode(fields: readonly HeaderField[]): Buffer {
    this.#at = 0
    this.#reserve(16)
    if (this.#resizedTo !== null) {
      if (this.#resizedTo < this.#limitBytes) this.#integer(0x20, 0x1f, this.#resizedTo)
      this.#integer(0x20, 0x1f, this.#limitBytes)
      this.#resizedTo = null
    }
    for (const field of fields) this.#field(field)
    return this.#out.subarray(0, this.#at)
  }

  #field(field: HeaderField): void {
    const { name, value } = field
    // Both strings at their longest, and three integers.
    this.#reserve(name.length + value.length + 24)
    const entry = this.#names.get(name)
    const sensitive = field.sensitive || secret.has(name)
    if (entry !== undefined && !sensitive) {
      const index = this.#indexOf(entry, value)
      if (index !== 0) {
        this.#integer(0x80, 0x7f, index)
        return
      }
    }
    const indexing = !sensitive && !passing.has(name) && fieldBytes(field) <= this.#limitBytes >>> 1
    const nameIndex = entry === undefined ? 0 : this.#nameIndexOf(entry)
    if (indexing) this.#integer(0x40, 0x3f, nameIndex)
    else this.#integer(sensitive ? 0x10 : 0, 0x0f, nameIndex)
    if (nameIndex === 0) this.#string(name)
    this.#string(value)
    if (indexing) this.#insert(field)
  }

  #indexOf(entry: NameEntry, value: string): number {
    const fixed = entry.staticValues.get(value)
    if (fixed !== undefined) return fixed
    const number = entry.values.get(value)
    return number === undefined ? 0 : this.#dynamicIndex(number)
  }

  #nameIndexOf(entry: NameEntry): number {
    if (entry.staticIndex !== 0) return entry.staticIndex
    for (const number of entry.values.values()) return this.#dynamicIndex(number)
    return 0
  }

  #dynamicIndex(number: number): number {
    return firstDynamicIndex + this.#table.inserted - 1 - number
  }

  #insert(field: HeaderField): void {
    const number = this.#table.inserted
    this.#table.insert(field)
    let entry = this.#names.get(field.name)
    if (entry === undefined) {
      entry = { staticIndex: 0, staticValues: new Map(), values: new Map() }
      this.#names.set(field.name, entry)
    }
    entry.values.set(field.value, number)
  }

  #forget(field: HeaderField, number: number): void {
    const entry = this.#names.get(field.name)
    if (entry === undefined || entry.values.get(field.value) !== number) return
    entry.values.delete(field.value)
    if (entry.values.size === 0 && entry.staticIndex === 0) this.#names.delete(field.name)
  }

  #string(text: string): void {
    const packed = huffmanBytes(text)
    if (packed < text.length) {
      this.#integer(0x80, 0x7f, packed)
      this.#at = huffmanEncode(text, this.#out, this.#at)
    } else {
      this.#integer(0, 0x7f, text.length)
      this.#at += this.#out.write(text, this.#at, 'latin1')
    }
  }

  #integer(pattern: number, mask: number, value: number): void {
    const out = this.#out
    if (value < mask) {
      out[this.#at++] = pattern | value
      return
    }
    out[this.#at++] = pattern | mask
    for (value -= mask; value >= 0x80; value >>>= 7) out[this.#at++] = (value & 0x7f) | 0x80
    out[this.#at++] = value
  }

  #reserve(bytes: number): void {
    if (this.#out.length - this.#at >= bytes) return
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#out.length * 2, this.#at + bytes))
    this.#out.copy(larger, 0, 0, this.#at)
    this.#out = larger
  }
}
