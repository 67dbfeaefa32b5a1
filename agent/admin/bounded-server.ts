/**
 * Owns an HTTP server for people and scrapers that cannot be worn out: GET only, no bodies, few
 * connections, short patience. It knows no routes.
 */

import { createServer, type Server, type ServerResponse } from 'node:http'
import type { ListenOptions } from 'node:net'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'

/** What a route answers. */
export interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/** Answers a path; the query is what stands behind it. */
export type Responder = (path: string, query: URLSearchParams) => Answer | Promise<Answer>

/** Settings of a server. */
export interface BoundedServerSettings {
  /** What it is, for error messages. */
  readonly name: string
  readonly listen: ListenOptions
  /** @default 64 */
  readonly maxConnections?: number
}

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
        request.resume()
        const { method = '', url = '' } = request
        if (method !== 'GET' && method !== 'HEAD') {
          send(response, method, text(405, 'only GET is served here'))
          return
        }
        const at = url.indexOf('?')
        const path = at < 0 ? url : url.slice(0, at)
        const query = new URLSearchParams(at < 0 ? '' : url.slice(at + 1))
        Promise.try(parts.respond, path, query).then(
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

function send(response: ServerResponse, method: string, { status, type, body }: Answer): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  response.end(method === 'HEAD' ? undefined : body)
}
