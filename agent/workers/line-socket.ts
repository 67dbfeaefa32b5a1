/**
 * Owns the framing of the worker protocol: one JSON object a line, with its `kind`, on a unix stream
 * socket. Bounded: a line past the limit ends the connection, and so does a line that is no message.
 */

import type { Socket } from 'node:net'

/** Settings of a line socket. */
export interface LineSocketSettings {
  /** Longest line in bytes; a snapshot of 10,000 instances takes about 2 MiB. @default 256 MiB */
  readonly maxLineBytes: number
}

const newline = 0x0a

/** Sends values of one type and receives values of another. */
export class LineSocket<Incoming extends { readonly kind: string }, Outgoing> {
  readonly #socket: Socket
  readonly #settings: LineSocketSettings
  #pieces: Buffer[] = []
  #size = 0
  #onMessage: (message: Incoming) => void = () => {}
  #onClose: (problem: string) => void = () => {}
  #onDrain: () => void = () => {}
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

  /** Says who is told whenever the other side has taken everything that had to wait. */
  onDrain(listener: () => void): void {
    this.#onDrain = listener
  }

  /** Sends one value. After the end it does nothing. */
  send(message: Outgoing): void {
    this.sendText(LineSocket.encode(message))
  }

  /** Sends one value that was encoded before, so that many workers share the work. */
  sendText(line: string): void {
    if (!this.#socket.destroyed) this.#socket.write(line, () => this.#taken())
  }

  /** Not the event `drain`: that comes only after a write beyond the high-water mark. */
  #taken(): void {
    if (!this.#socket.destroyed && this.backlog === 0) this.#onDrain()
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
      const message = parse(line)
      if (message === null) {
        this.close('received a line that is no message')
        return
      }
      this.#onMessage(message as Incoming)
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

function parse(line: string): { readonly kind: string } | null {
  try {
    const value = JSON.parse(line) as { readonly kind?: unknown } | null
    return typeof value?.kind === 'string' ? (value as { readonly kind: string }) : null
  } catch {
    return null
  }
}
