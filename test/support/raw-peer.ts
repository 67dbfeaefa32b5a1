/** Owns raw TCP ends for tests: every byte written by hand, every byte heard, waits for events. */

import { EventEmitter, once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/** One end of a connection. */
export class RawPeer {
  readonly socket: Socket
  readonly #chunks: Buffer[] = []
  readonly #changes = new EventEmitter()
  #text = ''
  bytes = 0
  ended = false
  closed = false
  /** The code of the error it closed with; empty for none. */
  error = ''

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.bytes += chunk.length
      this.#changes.emit('change')
    })
    socket.on('end', () => {
      this.ended = true
      this.#changes.emit('change')
    })
    socket.on('error', (error: NodeJS.ErrnoException) => (this.error = error.code ?? 'UNKNOWN'))
    socket.on('close', () => {
      this.closed = true
      this.#changes.emit('change')
    })
  }

  /** Connects to a port of this machine. */
  static async connect(port: number): Promise<RawPeer> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true })
    await once(socket, 'connect')
    return new RawPeer(socket)
  }

  /** Everything heard so far, latin-1. */
  get text(): string {
    if (this.#chunks.length > 0) {
      this.#text += Buffer.concat(this.#chunks.splice(0)).toString('latin1')
    }
    return this.#text
  }

  /** Sends text, latin-1. */
  write(text: string | Buffer): void {
    if (typeof text === 'string') this.socket.write(text, 'latin1')
    else this.socket.write(text)
  }

  /** Half-closes. */
  end(): void {
    this.socket.end()
  }

  /** Resets. */
  reset(): void {
    this.socket.resetAndDestroy()
  }

  /** Waits until what it heard makes `holds` true, or is or holds a text. */
  async until(holds: string | ((peer: RawPeer) => boolean)): Promise<string> {
    const is = typeof holds === 'string' ? () => this.text.includes(holds) : () => holds(this)
    while (!is()) {
      if (this.closed) throw new Error(`closed ${this.error} after ${JSON.stringify(this.text)}`)
      await once(this.#changes, 'change')
    }
    return this.text
  }

  /** Waits until the far side has ended or the connection is gone; answers what it heard. */
  async untilEnd(): Promise<string> {
    while (!this.ended && !this.closed) await once(this.#changes, 'change')
    return this.text
  }

  /** Waits until the connection is gone. */
  async untilClosed(): Promise<string> {
    while (!this.closed) await once(this.#changes, 'change')
    return this.text
  }
}

/** A server whose connections a test takes in order. */
export class RawServer {
  readonly peers: RawPeer[] = []
  readonly #server: Server
  readonly #changes = new EventEmitter()

  private constructor(server: Server) {
    this.#server = server
    server.on('connection', (socket) => {
      this.peers.push(new RawPeer(socket))
      this.#changes.emit('change')
    })
  }

  static async listen(): Promise<RawServer> {
    const server = createServer({ noDelay: true, allowHalfOpen: true })
    const raw = new RawServer(server)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return raw
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Waits for a connection, counted from 0. */
  async peer(index: number): Promise<RawPeer> {
    for (;;) {
      const peer = this.peers[index]
      if (peer !== undefined) return peer
      await once(this.#changes, 'change')
    }
  }

  stop(): void {
    this.#server.close()
    for (const { socket } of this.peers) socket.destroy()
  }
}
