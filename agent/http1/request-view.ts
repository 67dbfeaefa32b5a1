/**
 * Owns a request's head as routing and policy see it. Made once per request, and only where a rule
 * asks for it; each part is read when it is first looked at.
 */

import type { RequestFacts, RequestPath } from '#shared/model/request.ts'
import { queryOf, readRequestPath } from '#shared/route/request-path.ts'
import { linesOf } from './field-lines.ts'
import type { RequestHead } from './head.ts'

/** Gateways make `_` and `-` the same. */
const pathOverrides = /(?<=\n)(x[-_](?:original|rewrite)[-_](?:url|uri)):/gi
const methodOverrides = /(?<=\n)(x[-_](?:http[-_])?method(?:[-_]override)?):/gi

/** See the header. */
export class RequestView implements RequestFacts {
  readonly #head: RequestHead
  #path: RequestPath | null = null
  #lines: RequestFacts['lines'] | null = null

  constructor(head: RequestHead) {
    this.#head = head
  }

  get method(): string {
    return this.#head.method
  }

  get path(): RequestPath {
    return (this.#path ??= readRequestPath(this.#head.target))
  }

  get pathOverride(): string {
    return this.#nameLike(pathOverrides)
  }

  get methodOverride(): string {
    return this.#nameLike(methodOverrides)
  }

  get query(): string {
    return queryOf(this.#head.target)
  }

  get host(): string {
    const { authority } = this.#head
    return authority
      .replace(/:[0-9]*$/, '')
      .replace(/\.+$/, '')
      .toLowerCase()
  }

  get lines(): RequestFacts['lines'] {
    return (this.#lines ??= this.#readLines())
  }

  #readLines(): RequestFacts['lines'] {
    const { fields, requestId } = this.#head
    const lines = linesOf(fields)
    return requestId === fields.requestId
      ? lines
      : lines.map((line) => (line[0] === 'x-request-id' ? [line[0], requestId] : line))
  }

  /** The first field name that fits, found without taking the lines apart. */
  #nameLike(shape: RegExp): string {
    const { text, from } = this.#head.fields
    shape.lastIndex = from
    return shape.exec(text)?.[1]?.toLowerCase() ?? ''
  }

  get nominated(): ReadonlySet<string> | null {
    return this.#head.nominated
  }
}
