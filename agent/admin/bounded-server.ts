/**
 * Owns an HTTP server for people and scrapers that cannot be worn out: GET, and small POSTs where they
 * are wanted, few connections, short patience. It knows no routes.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { ListenOptions } from 'node:net'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'

/** What a route answers. */
export interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/** What is asked. */
export type Question =
  /** `query` is what stands behind the path. */
  | { readonly method: 'GET'; readonly query: URLSearchParams }
  /** `body` is what was posted, whole. */
  | { readonly method: 'POST'; readonly body: string }

/** Answers a path without its query. */
export type Responder = (path: string, question: Question) => Answer | Promise<Answer>

/** Settings of a server. */
export interface BoundedServerSettings {
  /** What it is, for error messages. */
  readonly name: string
  readonly listen: ListenOptions
  /** @default 64 */
  readonly maxConnections?: number
  /** Whether anything may be posted. @default false */
  readonly takesPosts?: boolean
}

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
        const isPost = method === 'POST' && settings.takesPosts === true
        if (method !== 'GET' && method !== 'HEAD' && !isPost) {
          request.resume()
          send(response, method, text(405, 'this method is not served here'))
          return
        }
        const at = url.indexOf('?')
        const path = at < 0 ? url : url.slice(0, at)
        const query = new URLSearchParams(at < 0 ? '' : url.slice(at + 1))
        const answered = Promise.try(async (): Promise<Answer> => {
          if (!isPost) {
            request.resume()
            return await parts.respond(path, { method: 'GET', query })
          }
          const body = await bodyOf(request)
          if (body === null) return text(413, `a body may have ${mostBodyBytes} bytes`)
          return await parts.respond(path, { method: 'POST', body })
        })
        answered.then(
          (answer) => send(response, method, answer),
          (error: unknown) => {
            send(response, method, text(500, 'this answer failed; the log says why'))
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

function send(response: ServerResponse, method: string, { status, type, body }: Answer): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  response.end(method === 'HEAD' ? undefined : body)
}
