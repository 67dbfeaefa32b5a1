/**
 * Owns an HTTP server for people and scrapers that cannot be worn out: GET, and small bodies where they
 * are wanted, few connections, short patience, and readers of streams that keep up. It knows no routes.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { ListenOptions, Socket } from 'node:net'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'

/** What a route answers, whole. */
export interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/** An answer that goes on until somebody ends it. */
export interface StreamedAnswer {
  readonly status: number
  readonly type: string
  /** Begins to write; answers what to do once it is over. */
  readonly begin: (out: StreamedBody) => () => void
}

/** Where such an answer is written. */
export interface StreamedBody {
  /** One piece; a reader that does not take it in time is cut off. */
  write(text: string): void
  /** Ends the answer. */
  end(): void
}

/** What is asked. */
export type Question =
  /** `query` is what stands behind the path. */
  | (From & { readonly method: 'GET'; readonly query: URLSearchParams })
  /** `body` is what was sent, whole. */
  | (From & { readonly method: 'POST' | 'PUT'; readonly body: string })

/** Who asks, as far as the server knows. */
export interface From {
  readonly socket: Socket
  /** The Host field; may be empty. */
  readonly host: string
}

/** Answers a path without its query. */
export type Responder = (
  path: string,
  question: Question,
) => Answer | StreamedAnswer | Promise<Answer | StreamedAnswer>

/** Settings of a server. */
export interface BoundedServerSettings {
  /** What it is, for error messages. */
  readonly name: string
  readonly listen: ListenOptions
  /** @default 64 */
  readonly maxConnections?: number
  /** How something may be sent to it. @default it may not */
  readonly takes?: 'POST' | 'PUT'
  /** What it answers where no route is asked. @default the message as plain text */
  readonly refuse?: (status: number, code: string, message: string) => Answer
}

/** A reader of a streamed answer that is this far behind is cut off, bytes. */
const mostWaitingBytes = 1_048_576

/** Largest body that is taken, bytes. */
const mostBodyBytes = 16 * 1024

/** A JSON answer. */
export function json(status: number, value: unknown): Answer {
  return { status, type: 'application/json', body: `${JSON.stringify(value)}\n` }
}

/** A plain text answer. */
export function text(status: number, body: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body: `${body}\n` }
}

/** Serves a responder. */
export class BoundedServer {
  readonly #server: Server
  readonly #logger: Logger
  readonly #settings: BoundedServerSettings

  constructor(
    parts: { readonly respond: Responder; readonly logger: Logger },
    settings: BoundedServerSettings,
  ) {
    this.#settings = settings
    this.#logger = parts.logger
    const refuse = settings.refuse ?? ((status, _code, message) => text(status, message))
    const allowed = settings.takes === undefined ? 'GET, HEAD' : `GET, HEAD, ${settings.takes}`
    this.#server = createServer(
      {
        headersTimeout: 5000,
        requestTimeout: 10_000,
        keepAliveTimeout: 5000,
        maxHeaderSize: 8192,
        connectionsCheckingInterval: 1000,
      },
      (request, response) => {
        const { method = '', url = '' } = request
        const sent = method === settings.takes ? settings.takes : null
        if (method !== 'GET' && method !== 'HEAD' && sent === null) {
          request.resume()
          response.setHeader('allow', allowed)
          send(response, method, refuse(405, 'unknown-method', 'this method is not served here'))
          return
        }
        const at = url.indexOf('?')
        const path = at < 0 ? url : url.slice(0, at)
        const query = new URLSearchParams(at < 0 ? '' : url.slice(at + 1))
        const from: From = { socket: request.socket, host: request.headers.host ?? '' }
        const answered = Promise.try(async (): Promise<Answer | StreamedAnswer> => {
          if (sent === null) {
            request.resume()
            return await parts.respond(path, { ...from, method: 'GET', query })
          }
          const body = await bodyOf(request)
          if (body === null) {
            return refuse(413, 'too-large', `a body may have ${mostBodyBytes} bytes`)
          }
          return await parts.respond(path, { ...from, method: sent, body })
        })
        answered.then(
          (answer) => send(response, method, answer),
          (error: unknown) => {
            send(response, method, refuse(500, 'failed', 'this answer failed; the log says why'))
            parts.logger.error(
              { error: messageOf(error), path, server: settings.name },
              'no answer',
            )
          },
        )
      },
    )
    this.#server.maxConnections = settings.maxConnections ?? 64
  }

  /** Listens. @throws MeshError `listen-failed` */
  start(): Promise<void> {
    const { name, listen } = this.#settings
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const place = listen.path ?? `${listen.host}:${listen.port}`
        const inUse = cause.code === 'EADDRINUSE'
        reject(
          new MeshError(`cannot open ${name} at ${place}: ${cause.message}`, {
            code: 'listen-failed',
            hint: inUse
              ? 'another process listens there; stop it or configure another place'
              : 'check the address and the permissions',
            cause,
          }),
        )
      })
      this.#server.listen(listen, () => {
        // A connection that could not be taken (too many open files) ends no agent.
        this.#server.on('error', (error) =>
          this.#logger.error({ error, server: name }, 'not taken'),
        )
        resolve()
      })
    })
  }

  /** Takes a connection that arrived elsewhere. */
  take(socket: Socket): void {
    this.#server.emit('connection', socket)
  }

  /** The TCP port in use; 0 on a unix socket. */
  get port(): number {
    const address = this.#server.address()
    return address !== null && typeof address === 'object' ? address.port : 0
  }

  /** Ends every connection and stops listening. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#server.closeAllConnections()
    await closed
  }
}

/** The whole body, or null where it is too large; the rest of it is left unread. */
async function bodyOf(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > mostBodyBytes) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function send(response: ServerResponse, method: string, answer: Answer | StreamedAnswer): void {
  const { status, type } = answer
  const fields = {
    'content-type': type,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  }
  if ('begin' in answer) {
    response.writeHead(status, fields)
    if (method === 'HEAD') response.end()
    else stream(response, answer)
    return
  }
  const { body } = answer
  response.writeHead(status, { ...fields, 'content-length': Buffer.byteLength(body) })
  response.end(method === 'HEAD' ? undefined : body)
}

function stream(response: ServerResponse, { begin }: StreamedAnswer): void {
  response.flushHeaders()
  const over = begin({
    write: (text) => {
      if (response.destroyed) return
      response.write(text)
      if (response.writableLength > mostWaitingBytes) response.destroy()
    },
    end: () => response.end(),
  })
  response.once('close', over)
}
