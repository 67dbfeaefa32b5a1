/**
 * Owns Node's own HTTP parser as a judge: bytes in, the messages it understood out. Bytes reach it
 * through a pair of streams in this process, so that thousands of cases take seconds.
 */

import { createServer, request, type IncomingMessage } from 'node:http'
import { Duplex } from 'node:stream'

/** A message as Node understood it. */
export interface Understood {
  /** Method and target, or the status. */
  readonly start: string
  /** Name, value, name, value …; names in lower case, values without outer blanks. */
  readonly fields: readonly string[]
  readonly body: string
  readonly trailers: readonly string[]
}

/** What became of a stream of bytes. */
export interface Judgement {
  readonly messages: readonly Understood[]
  /** The code of the error that ended it; empty for none. */
  readonly error: string
}

/** A socket whose far side is a text. */
class Wire extends Duplex {
  readonly #onWrite: (wire: Wire) => void

  constructor(onWrite: (wire: Wire) => void = () => {}) {
    super({ allowHalfOpen: true, highWaterMark: 1 << 20 })
    this.#onWrite = onWrite
  }

  /** Node asks sockets for these. */
  setTimeout(): this {
    return this
  }
  setNoDelay(): this {
    return this
  }
  setKeepAlive(): this {
    return this
  }
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }

  destroySoon(): void {
    this.end(() => this.destroy())
  }

  override _read(): void {}

  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    this.#onWrite(this)
    done()
  }
}

const server = createServer({
  insecureHTTPParser: false,
  requireHostHeader: false,
  maxHeaderSize: 131_072,
  keepAliveTimeout: 0,
  headersTimeout: 0,
  requestTimeout: 0,
  connectionsCheckingInterval: 1 << 30,
})
server.maxHeadersCount = 0

/** Reads requests, one after the other on one connection. */
export function judgeRequests(text: string): Promise<Judgement> {
  return new Promise((resolve) => {
    const wire = new Wire()
    const parts: { readonly message: IncomingMessage; body: string }[] = []
    let error = ''
    const onRequest = (message: IncomingMessage, response: { end: () => void }): void => {
      if (message.socket !== (wire as unknown)) return
      const part = { message, body: '' }
      parts.push(part)
      message.setEncoding('latin1')
      message.on('data', (data: string) => (part.body += data))
      message.on('error', () => {})
      response.end()
    }
    const onError = (fault: NodeJS.ErrnoException, socket: unknown): void => {
      if (socket !== wire) return
      error = fault.code ?? 'UNKNOWN'
      wire.destroy()
    }
    server.on('request', onRequest)
    server.on('clientError', onError)
    wire.on('close', () => {
      server.removeListener('request', onRequest)
      server.removeListener('clientError', onError)
      const whole = parts.filter(({ message }) => message.complete)
      resolve({ messages: whole.map(({ message, body }) => understood(message, body)), error })
    })
    server.emit('connection', wire)
    wire.push(Buffer.from(text, 'latin1'))
    wire.push(null)
  })
}

/** Reads one final response to a request, and the interim ones before it. */
export function judgeResponse(method: string, text: string): Promise<Judgement> {
  return new Promise((resolve) => {
    let asked = false
    const wire = new Wire(() => {
      if (asked) return
      asked = true
      wire.push(Buffer.from(text, 'latin1'))
      wire.push(null)
    })
    const messages: Understood[] = []
    const call = request({
      method,
      createConnection: () => wire,
      maxHeaderSize: 131_072,
      host: 'a',
    })
    const done = (error: string): void => {
      wire.destroy()
      resolve({ messages, error })
    }
    call.on('information', (info) => {
      messages.push({
        start: String(info.statusCode),
        fields: tidy(info.rawHeaders),
        body: '',
        trailers: [],
      })
    })
    call.on('upgrade', () => done('upgrade'))
    call.on('error', (fault: NodeJS.ErrnoException) => done(fault.code ?? 'UNKNOWN'))
    call.on('response', (message) => {
      let body = ''
      message.setEncoding('latin1')
      message.on('data', (data: string) => (body += data))
      message.on('error', (fault: NodeJS.ErrnoException) => done(fault.code ?? 'UNKNOWN'))
      message.on('end', () => {
        messages.push(understood(message, body))
        done('')
      })
    })
    call.end()
  })
}

function understood(message: IncomingMessage, body: string): Understood {
  const start =
    message.method === undefined || message.method === null
      ? String(message.statusCode)
      : `${message.method} ${message.url ?? ''}`
  return {
    start,
    fields: tidy(message.rawHeaders),
    body,
    trailers: tidy(message.rawTrailers),
  }
}

function tidy(raw: readonly string[]): string[] {
  return raw.map((text, index) => (index % 2 === 0 ? text.toLowerCase() : trim(text)))
}

function trim(text: string): string {
  return text.replace(/^[ \t]+|[ \t]+$/g, '')
}
