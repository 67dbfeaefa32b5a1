/**
 * Owns what waits for one worker that reads slowly: of each value only the newest, so that a worker
 * that has fallen behind, or reads no more, costs a bounded amount of memory and catches up at once.
 */

/** Where lines go; `LineSocket` fits. */
export interface LineSink {
  sendText(line: string): void
  /** Bytes waiting to be taken by the other side. */
  readonly backlog: number
}

/** See the header. Values of one kind replace each other; kinds keep the order they came in. */
export class Outbox<Kind extends string> {
  readonly #sink: LineSink
  readonly #waiting = new Map<Kind, () => string | null>()

  constructor(parts: { readonly sink: LineSink }) {
    this.#sink = parts.sink
  }

  /** Sends a line, or lets it wait in place of an older one; it is made when it is sent, if then. */
  put(kind: Kind, make: () => string | null): void {
    if (this.#waiting.size === 0 && this.#sink.backlog === 0) this.#send(make)
    else this.#waiting.set(kind, make)
  }

  /** Everything sent so far was taken: sends what waits. */
  drained(): void {
    for (const make of this.#waiting.values()) this.#send(make)
    this.#waiting.clear()
  }

  #send(make: () => string | null): void {
    const line = make()
    if (line !== null) this.#sink.sendText(line)
  }
}
