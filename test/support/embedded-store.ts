/** Owns embedded stores for tests: over a file, and served by gRPC without TLS. */

import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { createLogger } from '#shared/logging/logger.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { must } from '#shared/model/names.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import { grpc } from '#shared/rpc/grpc.ts'
import { EmbeddedStore } from '#controller/store/embedded-store.ts'

/** The identity callers have unless a test says otherwise. */
export const controllerIdentity: SpiffeId = must(
  parseSpiffeId('spiffe://mesh.internal/controller/one'),
)

/** Opens a store over a file, quietly. */
export function openStore(
  file: string,
  options: {
    readonly clock?: Clock
    readonly keepRevisions?: number
    readonly maxBytes?: number
    readonly logger?: Logger
  } = {},
): EmbeddedStore {
  const quiet = createLogger({ name: 'test', level: 'silent' })
  const { clock = systemClock, logger = quiet, ...settings } = options
  return EmbeddedStore.open({ clock, random: systemRandom, logger }, { file, ...settings })
}

/** A store served on a loopback port. */
export interface ServedStore {
  readonly store: EmbeddedStore
  readonly url: string
  readonly port: number
  /** Ends connections at once and closes the file. */
  stop(): Promise<void>
}

/** Serves a store; every caller has the identity that `identify` gives. */
export async function serveStore(
  file: string,
  options: {
    readonly identify?: () => SpiffeId | null
    /** Globs of services that every host may speak for. @default all */
    readonly hostServices?: readonly string[]
    readonly port?: number
    readonly clock?: Clock
    readonly keepRevisions?: number
  } = {},
): Promise<ServedStore> {
  const {
    identify = () => controllerIdentity,
    hostServices = ['*'],
    port: asked = 0,
    ...rest
  } = options
  const store = openStore(file, rest)
  const server = new grpc.Server()
  store.serve(server, identify, () => hostServices)
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(
      `127.0.0.1:${asked}`,
      grpc.ServerCredentials.createInsecure(),
      (error, bound) => (error === null ? resolve(bound) : reject(error)),
    )
  })
  return {
    store,
    url: `http://127.0.0.1:${port}`,
    port,
    stop: async () => {
      server.forceShutdown()
      await store.stop()
    },
  }
}
