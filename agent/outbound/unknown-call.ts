/**
 * Owns a connection to a target that nobody here knows yet, until it is known how to carry it. The view decides
 * that, once it has the target: until then the caller is not read, unless there is nothing more to wait
 * for. Then its first bytes tell whether it can be answered in HTTP. It answers nobody itself.
 */

import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Channel, ChannelSink } from '#agent/platform.ts'
import type { RelayWatch, Watched } from '#agent/relay/relay-watch.ts'
import { nobody } from '#agent/relay/silence.ts'
import type { Protocol } from '#shared/model/records.ts'

/** What it leans on. */
export interface UnknownCallParts {
  readonly caller: Channel
  readonly watch: RelayWatch
  readonly held: HeldBytes | undefined
  /** How the target is carried; null while the view does not have it. */
  readonly protocol: () => Protocol | null
  /** Has the target looked for; `done` is called once, unless the answer is false: it cannot be. */
  readonly look: (done: () => void) => boolean
  /** Takes the caller's channel over: to the target, or to be told that there is none. */
  readonly goOn: (protocol: Protocol) => void
}

/** How long a caller may say nothing, or wait for a view that has its target, where none was looked for. */
const patienceMs = 1000

/** How a request begins (RFC 9112 §3); HTTP/2 begins like one, and cannot be answered as one. */
const request = /^(?!PRI )[A-Za-z-]{1,32} (?:[/*]|https?:)/
const partOfRequest = /^[A-Za-z-]{1,32}(?: (?:h[tps]{0,4})?)?$/

/** See the header. */
export class UnknownCall implements ChannelSink, Watched {
  deadline = Infinity
  readonly #parts: UnknownCallParts
  #wasLookedFor = false
  /** What the caller has said. */
  #said: Buffer | null = null
  #over = false

  constructor(parts: UnknownCallParts) {
    this.#parts = parts
  }

  /** Begins; the caller's channel is its own until it goes on. */
  start(): void {
    const { caller, watch, look } = this.#parts
    caller.sink = this
    caller.pause()
    watch.add(this)
    this.#wasLookedFor = look(() => this.#hear())
    if (!this.#wasLookedFor) this.#hear()
  }

  /** The view is another one. */
  lookAgain(): void {
    const protocol = this.#over ? null : this.#parts.protocol()
    if (protocol !== null) this.#goOn(protocol)
  }

  onData(chunk: Buffer): void {
    const { caller, held } = this.#parts
    const hasRoom = held?.add(chunk.length) !== false
    this.#said = this.#said === null ? chunk : Buffer.concat([this.#said, chunk])
    const beginning = this.#said.toString('latin1', 0, 64)
    if (request.test(beginning)) this.#goOn('http')
    else if (partOfRequest.test(beginning)) return
    else if (this.#wasLookedFor || !hasRoom) this.#goOn('tcp')
    else caller.pause()
  }

  onEnd(): void {
    this.#goOn('tcp')
  }

  onDrain(): void {}

  onClose(): void {
    this.#goOn('tcp')
  }

  expired(): void {
    this.#goOn('tcp')
  }

  /** It ends soon by itself. */
  drain(): void {}

  reconsider(): void {}

  /** There is nothing more to ask. */
  #hear(): void {
    this.lookAgain()
    if (this.#over) return
    const { caller, watch } = this.#parts
    this.deadline = watch.deadlineIn(patienceMs)
    caller.resume()
  }

  #goOn(protocol: Protocol): void {
    if (this.#over) return
    this.#over = true
    const { caller, watch, held, goOn } = this.#parts
    const said = this.#said
    caller.sink = nobody
    goOn(protocol)
    // Only now: while none is watched over, a worker that drains takes all for finished, and ends.
    watch.remove(this)
    if (said === null) return
    held?.add(-said.length)
    caller.sink.onData(said)
  }
}
