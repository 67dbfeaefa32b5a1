/**
 * Owns a TCP socket as a channel. Writes are few and large (one system call a turn for what is big,
 * at once for what is small), and nothing is buffered past the socket's own mark. The socket must
 * allow half-open connections.
 */

import type { Socket } from 'node:net'
import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'

/** Pieces above this are gathered until the end of the turn. */
const small = 8192
/** Gathered bytes are written at the latest when they reach this. */
const most = 262_144

/** Channels with gathered pieces, flushed together at the end of the turn. */
let gathered: SocketChannel[] = []

function flushAll(): void {
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
  #gathered = false
  #full = false
  #paused = false
  #state: 'open' | 'ending' | 'ended' | 'closed' = 'open'
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
    // All that was written before the goodbye is with the kernel, which delivers it by itself.
    socket.on('finish', () => {
      if (this.#state === 'ending') this.#state = 'ended'
      this.#full = false
      this.sink.onDrain()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#error = { code: error.code ?? 'UNKNOWN', message: error.message }
    })
    socket.on('close', () => {
      this.#close()
      this.sink.onClose(this.#error)
    })
  }

  get closed(): boolean {
    return this.#state === 'closed'
  }

  write(chunk: Buffer): boolean {
    if (this.#state !== 'open' || chunk.length === 0) return true
    if (this.#size === 0 && chunk.length < small) {
      if (!this.#socket.write(chunk)) this.#full = true
      return !this.#full
    }
    this.#keep(chunk)
    this.#size += chunk.length
    if (this.#size >= most) this.flush()
    else this.#gather()
    return !this.#full
  }

  writeText(text: string): boolean {
    if (this.#state !== 'open') return true
    if (this.#size > 0) return this.write(Buffer.from(text, 'latin1'))
    if (!this.#socket.write(text, 'latin1')) this.#full = true
    return !this.#full
  }

  /** Writes what was gathered. */
  flush(): void {
    const pieces = this.#pieces
    const socket = this.#socket
    this.#gathered = false
    if (pieces.length === 0) return
    this.#pieces = []
    this.#size = 0
    let fits = true
    if (pieces.length > 1) socket.cork()
    for (const piece of pieces) fits = socket.write(piece)
    if (pieces.length > 1) socket.uncork()
    if (!fits) this.#full = true
  }

  end(): void {
    if (this.#state !== 'open') return
    this.flush()
    this.#state = 'ending'
    this.#socket.end()
  }

  abort(): void {
    const { closed } = this
    const saidAll = this.#state === 'ended'
    this.#close()
    if (closed) return
    // A reset would take back what the kernel has yet to deliver.
    if (saidAll) this.#socket.destroy()
    else this.#socket.resetAndDestroy()
  }

  pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#socket.resume()
  }

  /** A TLS socket hands over 16 KiB at a time, side by side in memory: they go out as one piece. */
  #keep(chunk: Buffer): void {
    const at = this.#pieces.length - 1
    const last = this.#pieces[at]
    if (last === undefined || last.buffer !== chunk.buffer) this.#pieces.push(chunk)
    else if (last.byteOffset + last.length !== chunk.byteOffset) this.#pieces.push(chunk)
    else this.#pieces[at] = Buffer.from(last.buffer, last.byteOffset, last.length + chunk.length)
  }

  #gather(): void {
    if (this.#gathered) return
    this.#gathered = true
    if (gathered.length === 0) setImmediate(flushAll)
    gathered.push(this)
  }

  #close(): void {
    this.#state = 'closed'
    this.#pieces = []
    this.#size = 0
  }
}
