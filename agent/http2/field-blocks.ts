/**
 * Owns field blocks on their way in (RFC 9113 §4.3): HEADERS and CONTINUATION frames in, decoded
 * header fields out. Bounded in bytes and in frames. What the fields mean is not its business.
 */

import { type Fault, connectionFault, errorCodes } from './fault.ts'
import { fieldBlockOf, flags, frameTypes, protocolFault } from './frames.ts'
import type { HeaderField } from './header-field.ts'
import { HpackDecoder } from './hpack-decoder.ts'

/** A whole header section as it arrived. */
export interface FieldSection {
  readonly streamId: number
  readonly endStream: boolean
  /** A priority that names its own stream (RFC 7540 §5.3.1). */
  readonly dependsOnItself: boolean
  readonly fields: readonly HeaderField[]
}

interface OpenBlock extends Omit<FieldSection, 'fields'> {
  readonly parts: Buffer[]
  bytes: number
}

const maxParts = 32

/** See the header. */
export class FieldBlocks {
  readonly #decoder: HpackDecoder
  readonly #maxListBytes: number
  #open: OpenBlock | null = null

  /** `maxListBytes`: largest list of fields, and so also the largest block. */
  constructor(settings: { readonly maxListBytes: number }) {
    this.#maxListBytes = settings.maxListBytes
    this.#decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: settings.maxListBytes })
  }

  /** True while only CONTINUATION may come. */
  get isOpen(): boolean {
    return this.#open !== null
  }

  /** Takes HEADERS; answers the section if that was all of it. */
  begin(frameFlags: number, streamId: number, payload: Buffer): FieldSection | Fault | null {
    const found = fieldBlockOf(payload, frameFlags, streamId)
    if ('scope' in found) return found
    this.#open = {
      streamId,
      endStream: (frameFlags & flags.endStream) !== 0,
      dependsOnItself: found.dependsOnItself,
      parts: [],
      bytes: 0,
    }
    return this.#add(this.#open, found.block, frameFlags)
  }

  /** Takes CONTINUATION; answers the section if that was the last of it. */
  continue(frameFlags: number, streamId: number, payload: Buffer): FieldSection | Fault | null {
    const open = this.#open
    return open === null || open.streamId !== streamId
      ? protocolFault(frameTypes.continuation, 'without HEADERS before it')
      : this.#add(open, payload, frameFlags)
  }

  /** Forgets what is incomplete. */
  stop(): void {
    this.#open = null
  }

  #add(open: OpenBlock, part: Buffer, frameFlags: number): FieldSection | Fault | null {
    open.parts.push(part)
    open.bytes += part.length
    if (open.bytes > this.#maxListBytes || open.parts.length > maxParts) {
      return connectionFault(errorCodes.enhanceYourCalm, 'a field block is too large')
    }
    if ((frameFlags & flags.endHeaders) === 0) return null
    this.#open = null
    return this.#decode(open, open.parts.length === 1 ? part : Buffer.concat(open.parts))
  }

  #decode(open: OpenBlock, block: Buffer): FieldSection | Fault {
    const decoded = this.#decoder.decode(block)
    switch (decoded.kind) {
      case 'fields': {
        const { streamId, endStream, dependsOnItself } = open
        return { streamId, endStream, dependsOnItself, fields: decoded.fields }
      }
      case 'too-large':
        return connectionFault(errorCodes.enhanceYourCalm, 'a field list is too large')
      case 'broken':
        return connectionFault(errorCodes.compressionError, decoded.problem)
    }
  }
}
