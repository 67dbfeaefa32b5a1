/**
 * Owns a TCP socket as a channel. Writes are few and large (one system call a turn for what is big,
 * at once for what is small), and nothing is buffered past the socket's own mark, nor past what the
 * whole process may hold for slow readers. The socket must allow half-open connections.
 */

import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { HeldBytes, Holder } from '#agent/http2/held-bytes.ts'
import type { Channel, ChannelError, ChannelSink } from '#agent/platform.ts'
import type { ChunkTaker, ReadBuffer } from './read-buffer.ts'

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

/** The channel of a socket. Found by the socket, the listeners are the same for all and cost nothing. */
const channelOf = Symbol('channel')
interface Owned extends Socket {
  [channelOf]: SocketChannel
}

function onData(this: Owned, chunk: Buffer): void {
  this[channelOf].sink.onData(chunk)
}

function onEnd(this: Owned): void {
  this[channelOf].sink.onEnd()
}

function onDrain(this: Owned): void {
  this[channelOf].drained()
}

function onFinish(this: Owned): void {
  this[channelOf].finished()
}

function onError(this: Owned, error: NodeJS.ErrnoException): void {
  this[channelOf].failed(error)
}

function onClose(this: Owned): void {
  this[channelOf].gone()
}

/** See the header. */
export class SocketChannel implements Channel, ChunkTaker, Holder {
  sink: ChannelSink
  readonly #socket: Socket
  readonly #held: HeldBytes | null
  readonly #reads: ReadBuffer | null
  /** Bytes counted as waiting for the far side to read. */
  #waiting = 0
  #pieces: Buffer[] = []
  #size = 0
  #gathered = false
  #full = false
  #paused = false
  #state: 'open' | 'ending' | 'ended' | 'closed' = 'open'
  #error: ChannelError | null = null

  /**
   * @param held counts what waits for slow readers, and bounds it across channels
   * @param reads what the socket was made to read into, if anything
   */
  constructor(socket: Socket, sink: ChannelSink, held?: HeldBytes, reads?: ReadBuffer) {
    this.#socket = socket
    this.#held = held ?? null
    this.#reads = reads ?? null
    this.sink = sink
    const owned = socket as Owned
    owned[channelOf] = this
    if (reads === undefined) owned.on('data', onData)
    else reads.take(this)
    owned.on('end', onEnd)
    owned.on('drain', onDrain)
    owned.on('finish', onFinish)
    owned.on('error', onError)
    owned.on('close', onClose)
  }

  get closed(): boolean {
    return this.#state === 'closed'
  }

  /** Bytes that were gathered or that the kernel has yet to take. */
  get waitingBytes(): number {
    return this.closed ? 0 : this.#size + this.#socket.writableLength
  }

  /** For the socket's reads. */
  push(chunk: Buffer): boolean {
    this.sink.onData(chunk)
    return true
  }

  write(chunk: Buffer): boolean {
    if (this.#state !== 'open' || chunk.length === 0) return true
    if (this.#size === 0 && chunk.length < small) {
      if (!this.#socket.write(chunk)) this.#full = true
      this.#count()
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
    this.#count()
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
    this.#count()
  }

  end(): void {
    if (this.#state !== 'open') return
    this.flush()
    this.#state = 'ending'
    const socket = this.#socket
    // The far side's goodbye was heard and the kernel has all that was written: to close is to say ours.
    if (socket.readableEnded && socket.writableLength === 0 && !isEncrypted(socket))
      socket.destroy()
    else socket.end()
  }

  abort(): void {
    const { closed } = this
    const saidAll = this.#state === 'ended'
    this.#close()
    if (closed) return
    // A reset would take back what the kernel has yet to deliver.
    if (saidAll) this.#socket.destroy()
    else this.#reset()
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

  /** For the socket: it takes more. */
  drained(): void {
    this.#full = false
    this.recount()
    this.sink.onDrain()
  }

  /** For the socket: all that was written before the goodbye is with the kernel, which delivers it. */
  finished(): void {
    if (this.#state === 'ending') this.#state = 'ended'
    this.drained()
  }

  /** For the socket: why it is about to close. */
  failed(error: NodeJS.ErrnoException): void {
    this.#error = { code: error.code ?? 'UNKNOWN', message: error.message }
  }

  /** For the socket: it is closed. */
  gone(): void {
    this.#close()
    this.#reads?.release()
    this.sink.onClose(this.#error)
  }

  /** For the count of what waits. */
  recount(): void {
    const now = this.#state === 'closed' ? 0 : this.#socket.writableLength
    const before = this.#waiting
    if (now === before) return
    this.#waiting = now
    this.#held?.change(this, before, now)
  }

  /** After a write: what the kernel did not take waits here, unless there is too much of that. */
  #count(): void {
    const now = this.#socket.writableLength
    const before = this.#waiting
    if (now === before || this.#held === null || this.#state === 'closed') return
    this.#waiting = now
    if (this.#held.change(this, before, now) || now < before) return
    this.#error = { code: 'ENOBUFS', message: 'too many bytes wait for slow readers on this host' }
    this.#close()
    this.#reset()
  }

  /** Of TLS an end without its goodbye says as much; Node resets plain sockets only, and throws else. */
  #reset(): void {
    if (isEncrypted(this.#socket)) this.#socket.destroy()
    else this.#socket.resetAndDestroy()
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
    this.recount()
    this.#pieces = []
    this.#size = 0
  }
}

function isEncrypted(socket: Socket): boolean {
  return (socket as Partial<TLSSocket>).encrypted === true
}
