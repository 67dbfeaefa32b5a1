/**
 * Owns the memory a socket is read into. By default Node makes a buffer a read, and making and
 * collecting those costs more than the bytes of a small message; here one buffer serves the reads of
 * all sockets, and what came is copied out. Only sockets that bring much, and few of those at a time,
 * read into buffers of their own, which go on as they are.
 */

import type { OnReadOpts } from 'node:net'

/** As much as libuv reads at once. */
const most = 65_536
/** A read from here on is passed on in its own buffer: copying it would cost more. */
const much = most / 2
/** Each that has a buffer of its own keeps it also while nothing comes. */
const mostOwners = 64

const shared = Buffer.allocUnsafeSlow(most)
let owners = 0

/** Takes what is read, each chunk for good; false: read no more for now. */
export interface ChunkTaker {
  push(chunk: Buffer): boolean
}

/** Until there is somebody; a socket that is dialled brings nothing before. */
const nobody: ChunkTaker = { push: () => true }

/** See the header. */
export class ReadBuffer {
  /** For the socket's `onread` option. */
  readonly onread: OnReadOpts
  #taker = nobody
  /** What the next read goes to. */
  #next = shared
  #mayOwn = false

  constructor() {
    this.onread = {
      buffer: () => this.#next,
      callback: (length) => this.#read(length),
    }
  }

  /** What is read goes to a taker that has no use for large buffers: the socket itself. */
  pass(taker: ChunkTaker): void {
    this.#taker = taker
  }

  /** What is read from now on goes to a taker; `release` says that it is over. */
  take(taker: ChunkTaker): void {
    this.#mayOwn = true
    this.#taker = taker
  }

  /** The socket is read no more. */
  release(): void {
    this.#mayOwn = false
    this.#disown()
  }

  #read(length: number): boolean {
    const from = this.#next
    const isMuch = length >= much
    if (!isMuch) this.#disown()
    else if (this.#next === shared) this.#own()
    else this.#next = Buffer.allocUnsafeSlow(most)
    if (isMuch && from !== shared) return this.#taker.push(from.subarray(0, length))
    const chunk = length < 4096 ? Buffer.allocUnsafe(length) : Buffer.allocUnsafeSlow(length)
    from.copy(chunk, 0, 0, length)
    return this.#taker.push(chunk)
  }

  #own(): void {
    if (!this.#mayOwn || owners >= mostOwners) return
    owners++
    this.#next = Buffer.allocUnsafeSlow(most)
  }

  #disown(): void {
    if (this.#next === shared) return
    owners--
    this.#next = shared
  }
}
