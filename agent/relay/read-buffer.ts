/**
 * Owns the memory a socket is read into. By default Node makes a buffer a read, and making and
 * collecting those costs more than the bytes of a small message; here one buffer serves the reads of
 * all sockets, and what came is copied out. Only a socket that brings much reads into buffers of its
 * own, which go on as they are.
 */

import type { OnReadOpts } from 'node:net'

/** As much as libuv reads at once. */
const most = 65_536
/** A read from here on is passed on in its own buffer: copying it would cost more. */
const much = most / 2

const shared = Buffer.allocUnsafeSlow(most)

/** See the header. */
export class ReadBuffer {
  /** For the socket's `onread` option. */
  readonly onread: OnReadOpts
  /** Takes what was read; the chunk is its own. */
  onChunk: (chunk: Buffer) => void = () => {}
  /** What the next read goes to. */
  #next = shared

  constructor() {
    this.onread = {
      buffer: () => this.#next,
      callback: (length) => {
        this.#read(length)
        return true
      },
    }
  }

  #read(length: number): void {
    const from = this.#next
    this.#next = length < much ? shared : Buffer.allocUnsafeSlow(most)
    if (length >= much && from !== shared) {
      this.onChunk(from.subarray(0, length))
      return
    }
    const chunk = length < 4096 ? Buffer.allocUnsafe(length) : Buffer.allocUnsafeSlow(length)
    from.copy(chunk, 0, 0, length)
    this.onChunk(chunk)
  }
}
