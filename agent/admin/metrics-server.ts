/**
 * Owns the agent's one page for machines that watch it: metrics, readiness, liveness, and nothing
 * that changes anything, because every host may reach it.
 */

import type { Logger } from '#shared/logging/logger.ts'
import { metricsContentType } from '#shared/metrics/registry.ts'
import type { MetricsSource } from './admin-source.ts'
import { type Answer, BoundedServer, text } from './bounded-server.ts'

/** Settings of the page. */
export interface MetricsServerSettings {
  readonly address: string
  /** 0 takes any free one. */
  readonly port: number
}

/** Serves `/metrics`, `/readyz` and `/healthz`. */
export class MetricsServer {
  readonly #source: MetricsSource
  readonly #server: BoundedServer
  #underWay: Promise<string> | null = null

  constructor(
    parts: { readonly source: MetricsSource; readonly logger: Logger },
    settings: MetricsServerSettings,
  ) {
    this.#source = parts.source
    this.#server = new BoundedServer(
      { respond: (path) => this.#answer(path), logger: parts.logger },
      { name: 'the metrics page', listen: { host: settings.address, port: settings.port } },
    )
  }

  /** Listens. @throws MeshError `listen-failed` */
  start(): Promise<void> {
    return this.#server.start()
  }

  /** The port in use. */
  get port(): number {
    return this.#server.port
  }

  /** Stops listening. */
  stop(): Promise<void> {
    return this.#server.stop()
  }

  async #answer(path: string): Promise<Answer> {
    switch (path) {
      case '/metrics':
        return { status: 200, type: metricsContentType, body: await this.#metrics() }
      case '/healthz':
        return text(200, 'ok')
      case '/readyz': {
        const { ready, waitsFor } = this.#source.readiness()
        return ready ? text(200, 'ready') : text(503, `not ready: waits for ${waitsFor}`)
      }
    }
    return text(404, 'there is /metrics, /readyz and /healthz')
  }

  /** Scrapes that arrive together share one collection. */
  #metrics(): Promise<string> {
    this.#underWay ??= this.#source.metricsText().finally(() => (this.#underWay = null))
    return this.#underWay
  }
}
