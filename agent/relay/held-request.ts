/**
 * Owns a request as it must be written, head and body, while it may have to be written again or for
 * the first time. Bounded: a body past the limit can no longer be repeated.
 */

import type { JoinedWriter } from './joined-writer.ts'

/** A body in more parts costs more to hold than its bytes. */
const mostParts = 256

/** One request after the other; `begin` starts each. */
export class HeldRequest {
  readonly #mostBytes: number
  #head = ''
  #body: (Buffer | string)[] = []
  #bytes = 0
  #isWhole = true

  constructor(settings: { readonly mostBytes: number }) {
    this.#mostBytes = settings.mostBytes
  }

  begin(head: string): void {
    this.#head = head
    this.#isWhole = true
  }

  /** Whether everything so far can be written again. */
  get canRepeat(): boolean {
    return this.#isWhole
  }

  /** Whether no more should be held before some of it went out. */
  get isFull(): boolean {
    return this.#bytes > this.#mostBytes || this.#body.length > mostParts
  }

  /** Adds a part of the body. It must not change any more. */
  add(part: Buffer | string): void {
    if (!this.#isWhole) return
    this.#body.push(part)
    this.#bytes += part.length
  }

  /** What is past the limit has been sent and cannot be held. */
  dropExcess(): void {
    if (!this.isFull) return
    this.forget()
    this.#isWhole = false
  }

  /** Writes all of it. */
  writeTo(out: JoinedWriter): void {
    out.text(this.#head)
    for (const part of this.#body) {
      if (typeof part === 'string') out.text(part)
      else out.piece(part)
    }
  }

  forget(): void {
    this.#head = ''
    if (this.#bytes > 0) this.#body = []
    this.#bytes = 0
  }
}
