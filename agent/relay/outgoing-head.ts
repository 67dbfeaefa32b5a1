/**
 * Owns the text of request heads as they go on: what the caller said, and the field lines the mesh
 * itself sets, about who called, by what way, under which id. These replace whatever the caller sent
 * under those names (`http1/hygiene.ts` takes that out).
 */

import type { RequestHead } from '#agent/http1/head.ts'
import { writeRequestHead } from '#agent/http1/serialise.ts'
import { authorityOutside, type OutsideName } from './outside-name.ts'
import type { HttpSteps } from './steps.ts'

/** The heads of one caller connection's requests. */
export class OutgoingHead {
  readonly #steps: HttpSteps
  /** What of a head's text does not differ from request to request, and the head it is of. */
  #written = ''
  #writtenHead: RequestHead | null = null
  /** The lines behind the id's, the same as long as requests name the same authority. */
  #lines = ''
  #authority: string | null = null

  constructor(parts: { readonly steps: HttpSteps }) {
    this.#steps = parts.steps
  }

  /**
   * A whole head.
   * @param outside how the request may name where it goes; undefined inside the mesh
   */
  textOf(head: RequestHead, requestId: string, outside: OutsideName | undefined): string {
    const idLine = `x-request-id: ${requestId}\r\n`
    if (outside !== undefined) {
      // Who calls, and from where, is not the business of a service outside the mesh.
      const authority = authorityOutside(head.authority, outside) ?? outside.authority
      return `${writeRequestHead(head, 'caller-request', authority)}${idLine}\r\n`
    }
    if (head !== this.#writtenHead) {
      const origin = this.#steps.direction === 'outbound' ? 'caller-request' : 'peer-request'
      this.#written = writeRequestHead(head, origin)
      this.#writtenHead = head
    }
    if (head.authority !== this.#authority) {
      this.#lines = this.#linesFor(head.authority)
      this.#authority = head.authority
    }
    return `${this.#written}${idLine}${this.#lines}\r\n`
  }

  #linesFor(authority: string): string {
    const { direction, source, callerAddress } = this.#steps
    const sourceLine = source === null ? '' : `x-mesh-source: ${source}\r\n`
    switch (direction) {
      case 'inbound':
        return sourceLine
      case 'outbound':
        return (
          `x-forwarded-for: ${callerAddress}\r\nx-forwarded-proto: http\r\n` +
          `x-forwarded-host: ${authority}\r\n${sourceLine}`
        )
    }
  }
}
