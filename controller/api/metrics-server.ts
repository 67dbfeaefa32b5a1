/** Owns the port for metrics and readiness: three paths to read, nothing to command. */

import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { metricsContentType } from '#shared/metrics/registry.ts'
import { formatHostPort } from '#shared/rpc/host-port.ts'
import type { HostPort } from '#shared/rpc/host-port.ts'

/** What it leans on. */
export interface MetricsServerParts {
  /** The whole exposition. */
  readonly render: () => Promise<string>
  /** What the controller is not ready without; empty when it is ready. */
  readonly waitsFor: () => string
}

/** See the header. */
export class MetricsServer {
  readonly #parts: MetricsServerParts
  readonly #listen: HostPort
  readonly #server: Server

  constructor(parts: MetricsServerParts, settings: { readonly listen: HostPort }) {
    this.#parts = parts
    this.#listen = settings.listen
    this.#server = createServer(
      { maxHeaderSize: 8192, headersTimeout: 5000, requestTimeout: 10_000 },
      (request, response) => void this.#answer(request, response),
    )
    this.#server.maxConnections = 64
  }

  /** Opens the port. Throws MeshError `port-unavailable`. */
  async listen(): Promise<AddressInfo> {
    const { host, port } = this.#listen
    const { promise, resolve, reject } = Promise.withResolvers<AddressInfo>()
    this.#server.once('error', reject)
    this.#server.listen({ host, port }, () => resolve(this.#server.address() as AddressInfo))
    try {
      return await promise
    } catch (error) {
      throw new MeshError(`cannot listen on ${formatHostPort(host, port)}`, {
        code: 'port-unavailable',
        hint: 'another process may hold the port, or the address is not of this host',
        cause: error,
      })
    } finally {
      this.#server.off('error', reject)
    }
  }

  /** Ends it with every connection: scrapes come again. */
  async stop(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => resolve())
    this.#server.closeAllConnections()
    await promise
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const text = (status: number, body: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(status, { 'content-type': type, 'x-content-type-options': 'nosniff' })
      response.end(request.method === 'HEAD' ? undefined : body)
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      text(405, 'only GET\n')
      return
    }
    switch (request.url ?? '') {
      case '/metrics':
        try {
          text(200, await this.#parts.render(), metricsContentType)
        } catch {
          text(500, 'the metrics could not be rendered\n')
        }
        return
      case '/healthz':
        text(200, 'ok\n')
        return
      case '/readyz': {
        const waitsFor = this.#parts.waitsFor()
        if (waitsFor === '') text(200, 'ready\n')
        else text(503, `not ready: waits for ${waitsFor}\n`)
        return
      }
      default:
        text(404, 'here are /metrics, /healthz and /readyz\n')
    }
  }
}
