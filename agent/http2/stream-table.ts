/** Owns which streams of a connection are open, and how the others ended. */

import type { Http2Stream } from './stream.ts'
import { StreamIds } from './stream-ids.ts'

/** See the header. */
export class StreamTable {
  readonly ids = new StreamIds()
  readonly #open = new Map<number, Http2Stream>()
  readonly #lingering = new Set<Http2Stream>()

  /** Streams open on the wire. */
  get size(): number {
    return this.#open.size
  }

  /** Streams over on the wire whose bytes still wait for a consumer. */
  get lingering(): number {
    return this.#lingering.size
  }

  /** The open stream of an id. */
  get(id: number): Http2Stream | undefined {
    return this.#open.get(id)
  }

  /** The open streams, as they are now. */
  all(): Http2Stream[] {
    return [...this.#open.values()]
  }

  /** A stream is open. */
  add(stream: Http2Stream): void {
    this.#open.set(stream.id, stream)
  }

  /** Both sides have finished on the wire. */
  finish(stream: Http2Stream): void {
    this.#open.delete(stream.id)
    this.ids.close(stream.id, 'finished')
    this.#lingering.add(stream)
  }

  /** It was reset on the wire. */
  reset(stream: Http2Stream, how: 'reset-here' | 'reset-there'): void {
    this.#open.delete(stream.id)
    this.ids.close(stream.id, how)
  }

  /** Nothing of it is left. */
  gone(stream: Http2Stream): void {
    this.#lingering.delete(stream)
  }
}
