/**
 * Owns the API for applications, put together: its server, its routes and its streams. Each part has a
 * file of its own; nothing is decided here.
 */

import type { Logger } from '#shared/logging/logger.ts'
import { answerApplication, type ApplicationApiParts } from './application-api.ts'
import { ApplicationServer, type ApplicationServerSettings } from './application-server.ts'
import { ServiceWatches, type ServiceWatchesParts } from './service-watches.ts'

/** What it leans on. */
export type ApplicationsParts = Omit<ApplicationApiParts, 'watches'> &
  ServiceWatchesParts & { readonly logger: Logger }

/** See the header. */
export class Applications {
  readonly #watches: ServiceWatches
  readonly #server: ApplicationServer

  constructor(parts: ApplicationsParts, settings: ApplicationServerSettings) {
    const watches = new ServiceWatches(parts)
    this.#watches = watches
    this.#server = new ApplicationServer(
      {
        clock: parts.clock,
        logger: parts.logger,
        respond: (asker, path, question) =>
          answerApplication({ ...parts, watches }, asker, path, question),
      },
      settings,
    )
  }

  /** The loopback port in use. */
  get port(): number {
    return this.#server.port
  }

  start(): Promise<void> {
    return this.#server.start()
  }

  /** Services, or what is known of them, may have changed. */
  refresh(): void {
    this.#watches.refresh()
  }

  async stop(): Promise<void> {
    this.#watches.stop()
    await this.#server.stop()
  }
}
