/**
 * Owns the reading of HPACK header blocks (RFC 7541 §3 and §6) of one direction of a connection.
 * Strict and bounded: whatever a peer sends costs no more than the limits allow. It does not judge
 * the fields' meaning.
 */

import { DynamicTable } from './hpack-dynamic-table.ts'
import { type HeaderField, fieldBytes, headerField } from './header-field.ts'
import { huffmanDecode } from './hpack-huffman.ts'
import { firstDynamicIndex, staticTable } from './hpack-static-table.ts'

/** What a block held. After anything but `fields` the tables are out of step for good. */
export type DecodedBlock =
  | { readonly kind: 'fields'; readonly fields: readonly HeaderField[] }
  /** The list is larger than `maxListBytes`. */
  | { readonly kind: 'too-large' }
  /** No HPACK; `problem` says what. */
  | { readonly kind: 'broken'; readonly problem: string }

/** Settings of a decoder. */
export interface HpackDecoderSettings {
  /** The SETTINGS_HEADER_TABLE_SIZE we announced, bytes. @default 4096 */
  readonly maxTableBytes: number
  /** Largest list of fields, as RFC 9113 §6.5.2 counts it. @default 16384 */
  readonly maxListBytes: number
}

class BrokenBlock extends Error {}

const scratch = Buffer.allocUnsafeSlow(8192)

/** Reads the blocks of a connection in their order. */
export class HpackDecoder {
  readonly #settings: HpackDecoderSettings
  readonly #table: DynamicTable
  #block: Buffer = scratch
  #at = 0

  constructor(settings: HpackDecoderSettings = { maxTableBytes: 4096, maxListBytes: 16_384 }) {
    this.#settings = settings
    this.#table = new DynamicTable({}, { maxBytes: settings.maxTableBytes })
  }

  /** What the dynamic table counts for, bytes. */
  get tableBytes(): number {
    return this.#table.bytes
  }

  /** Reads one whole block. */
  decode(block: Buffer): DecodedBlock {
    this.#block = block
    this.#at = 0
    try {
      return this.#fields()
    } catch (error) {
      if (error instanceof BrokenBlock) return { kind: 'broken', problem: error.message }
      throw error
    } finally {
      this.#block = scratch
    }
  }

  #fields(): DecodedBlock {
    const fields: HeaderField[] = []
    const end = this.#block.length
    let bytes = 0
    while (this.#at < end) {
      const byte = this.#block[this.#at] as number
      if ((byte & 0xe0) === 0x20) {
        if (fields.length > 0) throw new BrokenBlock('a table size update after a field')
        this.#resize(this.#integer(0x1f))
        continue
      }
      const field = this.#field(byte)
      bytes += fieldBytes(field)
      if (bytes > this.#settings.maxListBytes) return { kind: 'too-large' }
      fields.push(field)
    }
    return { kind: 'fields', fields }
  }

  #field(byte: number): HeaderField {
    if ((byte & 0x80) !== 0) return this.#indexed(this.#integer(0x7f))
    if ((byte & 0x40) !== 0) {
      const field = this.#literal(this.#integer(0x3f), false)
      this.#table.insert(field)
      return field
    }
    return this.#literal(this.#integer(0x0f), (byte & 0x10) !== 0)
  }

  #indexed(index: number): HeaderField {
    const field =
      index < firstDynamicIndex ? staticTable[index] : this.#table.at(index - firstDynamicIndex)
    if (index === 0 || field === undefined) throw new BrokenBlock(`index ${index} is not in use`)
    return field
  }

  #literal(nameIndex: number, sensitive: boolean): HeaderField {
    const name = nameIndex === 0 ? this.#string() : this.#indexed(nameIndex).name
    return headerField(name, this.#string(), sensitive)
  }

  #resize(bytes: number): void {
    if (bytes > this.#settings.maxTableBytes) {
      throw new BrokenBlock(`a table of ${bytes} bytes, beyond ${this.#settings.maxTableBytes}`)
    }
    this.#table.resize(bytes)
  }

  /** An integer whose first byte keeps it in the bits of `mask` (RFC 7541 §5.1). */
  #integer(mask: number): number {
    const block = this.#block
    let value = (block[this.#at++] as number) & mask
    if (value < mask) return value
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = block[this.#at++]
      if (byte === undefined) throw new BrokenBlock('an integer is cut short')
      value += (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    throw new BrokenBlock('an integer beyond 28 bits')
  }

  #string(): string {
    const block = this.#block
    const first = block[this.#at]
    if (first === undefined) throw new BrokenBlock('a string is missing')
    const length = this.#integer(0x7f)
    const start = this.#at
    const end = start + length
    if (end > block.length) throw new BrokenBlock('a string is cut short')
    this.#at = end
    if ((first & 0x80) === 0) return block.toString('latin1', start, end)
    const target = length * 2 > scratch.length ? Buffer.allocUnsafe(length * 2) : scratch
    const decoded = huffmanDecode(block, start, end, target)
    if (decoded < 0) throw new BrokenBlock('a string is not in the Huffman code')
    return target.toString('latin1', 0, decoded)
  }
}
