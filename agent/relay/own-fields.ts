/**
 * Owns the field lines the mesh itself sets on requests: who called, by what way, under which id.
 * They replace whatever the caller sent under those names (`http1/hygiene.ts` takes that out).
 */

import type { RequestHead } from '#agent/http1/head.ts'
import type { Random } from '#agent/platform.ts'
import type { HttpSteps } from './steps.ts'

/**
 * Ids of one process: random for the process, counted for the request. They are made of parts that
 * stay, so that most cost no conversion of a number.
 */
let processPart = ''
let prefix = ''
let count = 0
const pairs = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** What a peer agent may give as an id: it goes into logs and replies. */
const idShape = /^[\x21-\x7e]{1,128}$/

/** The fields of one caller connection's requests. */
export class OwnFields {
  readonly #steps: HttpSteps
  readonly #random: Random
  /** The lines behind the id's, the same as long as requests name the same authority. */
  #lines = ''
  #authority: string | null = null

  constructor(parts: { readonly steps: HttpSteps; readonly random: Random }) {
    this.#steps = parts.steps
    this.#random = parts.random
  }

  /** A request's id: the peer agent's on the inbound side, a new one on the outbound side. */
  idOf(head: RequestHead | null): string {
    if (this.#steps.direction === 'inbound' && head !== null) {
      const { requestId } = head
      if (idShape.test(requestId)) return requestId
    }
    if (processPart === '') processPart = this.#random.bytes(10).toString('hex')
    if ((count & 0xffff) === 0) prefix = processPart + (count >>> 16).toString(16).padStart(8, '0')
    const low = count & 0xffff
    count++
    return prefix + pairs[low >> 8] + pairs[low & 0xff]
  }

  /** The field lines of a request that goes on. */
  linesOf(head: RequestHead, requestId: string): string {
    if (head.authority !== this.#authority) {
      this.#lines = this.#linesFor(head.authority)
      this.#authority = head.authority
    }
    return `x-request-id: ${requestId}\r\n${this.#lines}`
  }

  /** The same for a service outside the mesh: who calls, and from where, is not its business. */
  outsideLinesOf(requestId: string): string {
    return `x-request-id: ${requestId}\r\n`
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
