/**
 * Owns the framing of the worker protocol: one JSON value a line on a unix stream socket. Bounded:
 * a line past the limit ends the connection, and so does a line that is not JSON.
 */

import type { Socket } from 'node:net'

/** Settings of a line socket. */
export interface LineSocketSettings {
  /** Longest line in bytes; a snapshot of 10,000 instances takes about 2 MiB. @default 256 MiB */
  readonly maxLineBytes: number
}

const newline = 0x0a

/** Sends values of one type and receives values of another. */
export class LineSocket<Incoming, Outgoing> {
  readonly #socket: Socket
  readonly #settings: LineSocketSettings
  #pieces: Buffer[] = []
  #size = 0
  #onMessage: (message: Incoming) => void = () => {}
  #onClose: (problem: string) => void = () => {}
  #problem = ''

  constructor(socket: Socket, settings: LineSocketSettings = { maxLineBytes: 256 * 2 ** 20 }) {
    this.#socket = socket
    this.#settings = settings
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('error', (error) => {
      this.#problem ||= error.message
    })
    socket.on('close', () => this.#onClose(this.#problem || 'the other side closed'))
  }

  /** Says who is told of messages and of the end; call before the first turn is over. */
  handle(onMessage: (message: Incoming) => void, onClose: (problem: string) => void): void {
    this.#onMessage = onMessage
    this.#onClose = onClose
  }

  /** Sends one value. After the end it does nothing. */
  send(message: Outgoing): void {
    this.sendText(LineSocket.encode(message))
  }

  /** Sends one value that was encoded before, so that many workers share the work. */
  sendText(line: string): void {
    if (!this.#socket.destroyed) this.#socket.write(line)
  }

  /** A value as a line. */
  static encode(message: unknown): string {
    return `${JSON.stringify(message)}\n`
  }

  /** Bytes waiting to be taken by the other side. */
  get backlog(): number {
    return this.#socket.writableLength
  }

  /** Ends the connection; `onClose` follows. */
  close(problem = ''): void {
    this.#problem ||= problem
    this.#socket.destroy()
  }

  #read(chunk: Buffer): void {
    let rest = chunk
    for (let at = rest.indexOf(newline); at >= 0; at = rest.indexOf(newline)) {
      this.#pieces.push(rest.subarray(0, at))
      const line = Buffer.concat(this.#pieces).toString('utf8')
      this.#pieces = []
      this.#size = 0
      rest = rest.subarray(at + 1)
      let message: Incoming
      try {
        message = JSON.parse(line) as Incoming
      } catch {
        this.close('received a line that is not JSON')
        return
      }
      this.#onMessage(message)
      if (this.#socket.destroyed) return
    }
    if (rest.length === 0) return
    this.#size += rest.length
    if (this.#size > this.#settings.maxLineBytes) {
      this.close(`received a line of more than ${this.#settings.maxLineBytes} bytes`)
      return
    }
    this.#pieces.push(rest)
  }
}
