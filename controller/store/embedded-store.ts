/**
 * Owns the embedded store as the controller sees it: one file, one engine, served to agents and
 * operators as etcd's API, and used by the controller itself without a wire.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { grpc } from '#shared/rpc/grpc.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { WireKeyValue } from '#shared/store/wire-key-value.ts'
import { openDatabase } from './database.ts'
import type { EngineGauges, EngineSettings } from './engine.ts'
import { Engine } from './engine.ts'
import { Mvcc } from './mvcc.ts'
import { refuseHalfRestored } from './restore.ts'
import type { HostServices, Identify } from './service.ts'
import { serveStore } from './service.ts'
import { Snapshots } from './snapshots.ts'

export type { Identify, IdentifiedCall } from './service.ts'

/** Its file's name in the controller's state directory. */
export const storeFile = 'store.sqlite'

/** Collaborators of an embedded store. */
export interface EmbeddedStoreParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

/** Settings of an embedded store. */
export interface EmbeddedStoreSettings extends EngineSettings {
  /** The database's file; made with mode 0600 where there is none. */
  readonly file: string
}

/** See the header. */
export class EmbeddedStore {
  readonly #engine: Engine
  readonly #logger: Logger
  /** The store for this process: no wire, no access rules. */
  readonly keyValue: KeyValue

  private constructor(parts: EmbeddedStoreParts, engine: Engine) {
    this.#engine = engine
    this.#logger = parts.logger
    this.keyValue = new WireKeyValue({ rpc: engine, clock: parts.clock }, {})
  }

  /**
   * Opens the file.
   *
   * @throws MeshError `store-from-newer-version`, `store-locked`, `store-unreadable` or
   * `store-half-restored`
   */
  static open(parts: EmbeddedStoreParts, settings: EmbeddedStoreSettings): EmbeddedStore {
    const { file } = settings
    refuseHalfRestored(file)
    const mvcc = new Mvcc({ database: openDatabase(parts, file) })
    const snapshots = new Snapshots(parts, { file })
    return new EmbeddedStore(parts, new Engine({ ...parts, mvcc, snapshots }, settings))
  }

  /** Where its content is now; empty for a store that has not moved. */
  get movedTo(): string {
    return this.#engine.movedTo
  }

  /** See `Engine.moveTo`. An empty place takes everything back. */
  moveTo(to: string, isFinal: boolean): Promise<void> {
    return this.#engine.moveTo(to, isFinal)
  }

  /** What metrics tell. */
  get gauges(): EngineGauges {
    return this.#engine.gauges
  }

  /**
   * Adds etcd's services to a server; `identify` gives the caller proven by mTLS, or null, and
   * `hostServices` the globs of services a host may speak for.
   */
  serve(server: grpc.Server, identify: Identify, hostServices: HostServices): void {
    serveStore({ engine: this.#engine, identify, hostServices, logger: this.#logger }, server)
  }

  /** Commits what is queued and closes the file. Stop the server first. */
  async stop(): Promise<void> {
    await this.#engine.stop()
  }
}
