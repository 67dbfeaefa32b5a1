/**
 * Owns a TCP socket as a channel. Writes are few and large (one system call a turn for what is big,
 * at once for what is small), and nothing is buffered past the socket's own mark.
 */

import type { Socket } from 'node:net'
import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'

/** Pieces above this are gathered until the end of the turn. */
const small = 8192
/** Gathered bytes are written at the latest when they reach this. */
const most = 262_144

/** Channels with gathered pieces, flushed together at the end of the turn. */
let gathered: SocketChannel[] = []
let armed = false

function flushAll(): void {
  armed = false
  const channels = gathered
  gathered = []
  for (const channel of channels) channel.flush()
}

/** See the header. */
export class SocketChannel implements Channel {
  sink: ChannelSink
  readonly #socket: Socket
  #pieces: Buffer[] = []
  #size = 0
  #full = false
  #ended = false
  #closed = false
  #error: ChannelError | null = null

  constructor(socket: Socket, sink: ChannelSink) {
    this.#socket = socket
    this.sink = sink
    socket.on('data', (chunk: Buffer) => this.sink.onData(chunk))
    socket.on('end', () => this.sink.onEnd())
    socket.on('drain', () => {
      this.#full = false
      this.sink.onDrain()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#error = { code: error.code ?? 'UNKNOWN', message: error.message }
    })
    socket.on('close', () => {
      this.#closed = true
      this.#pieces = []
      this.sink.onClose(this.#error)
    })
  }

  get closed(): boolean {
    return this.#closed
  }

  write(chunk: Buffer): boolean {
    if (this.#closed || this.#ended) return true
    if (this.#size === 0 && chunk.length < small) {
      if (!this.#socket.write(chunk)) this.#full = true
      return !this.#full
    }
    if (this.#size === 0) this.#arm()
    this.#pieces.push(chunk)
    this.#size += chunk.length
    if (this.#size >= most) this.flush()
    return !this.#full
  }

  writeText(text: string): boolean {
    if (this.#closed || this.#ended) return true
    if (this.#size > 0) return this.write(Buffer.from(text, 'latin1'))
    if (!this.#socket.write(text, 'latin1')) this.#full = true
    return !this.#full
  }

  /** Writes what was gathered. */
  flush(): void {
    const pieces = this.#pieces
    if (pieces.length === 0 || this.#closed) return
    this.#pieces = []
    this.#size = 0
    let fits: boolean
    if (pieces.length === 1) fits = this.#socket.write(pieces[0] as Buffer)
    else {
      fits = true
      this.#socket.cork()
      for (const piece of pieces) fits = this.#socket.write(piece)
      this.#socket.uncork()
    }
    if (!fits) this.#full = true
  }

  end(): void {
    if (this.#closed || this.#ended) return
    this.flush()
    this.#ended = true
    this.#socket.end()
  }

  abort(): void {
    if (this.#closed) return
    this.#closed = true
    this.#pieces = []
    this.#socket.resetAndDestroy()
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  #arm(): void {
    gathered.push(this)
    if (armed) return
    armed = true
    setImmediate(flushAll)
  }
}
