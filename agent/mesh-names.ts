/**
 * Composition of names: the mesh's DNS on a host that captures, and how a question finds a service
 * that is not followed yet. It knows no addresses of its own.
 */

import type { AgentConfig } from './config.ts'
import { forgetMesh } from './dns/forget-mesh.ts'
import { MeshDns } from './dns/mesh-dns.ts'
import { reloadResolved } from './dns/reload-resolved.ts'
import type { DnsOutcome } from './dns/responder.ts'
import { WantedNames } from './dns/wanted-names.ts'
import type { HostCapture } from './interception/host-capture.ts'
import type { MeshView } from './mesh-view.ts'
import type { Clock, Random } from './platform.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ServiceName } from '#shared/model/names.ts'

/** What it leans on. */
export interface MeshNamesParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly capture: Pick<HostCapture, 'names' | 'isWanted' | 'isLifted'>
  readonly view: Pick<MeshView, 'isOnDemand' | 'lookUp' | 'use'>
}

/** See the header. */
export class MeshNames {
  readonly #parts: MeshNamesParts
  readonly #wanted: WantedNames
  /** Null where nothing is captured: names would lead nowhere. */
  readonly #dns: MeshDns | null

  constructor(parts: MeshNamesParts, { capture: { wish }, listen, systemDns }: AgentConfig) {
    const { clock, capture, view } = parts
    this.#parts = parts
    this.#wanted = new WantedNames({ clock, has: (name) => capture.names?.has(name) === true })
    this.#dns =
      wish === 'off'
        ? null
        : new MeshDns(
            {
              ...parts,
              names: () => capture.names,
              reloadResolved,
              services: {
                lookUp: (service) => this.#lookUp(service),
                used: (service) => view.use([service]),
              },
            },
            { listen: listen.dns, system: systemDns },
          )
  }

  /** How many questions ended how. */
  get counts(): ReadonlyMap<DnsOutcome, number> {
    return this.#dns?.counts ?? new Map()
  }

  async start(): Promise<void> {
    if (this.#parts.capture.isWanted) await this.#dns?.start()
    // Of an earlier run that was killed. Where this process may not write, it never did.
    else if (this.#dns === null) await forgetMesh().catch(() => {})
  }

  /** Capture may have come, gone, or got names. */
  refresh(): void {
    this.#wanted.refresh()
    this.#dns?.setPaused(this.#parts.capture.isLifted)
  }

  async stop(): Promise<void> {
    await this.#dns?.stop()
  }

  /** Until it has an address here, where not all services are followed. */
  async #lookUp(service: ServiceName): Promise<void> {
    const { view } = this.#parts
    if (!view.isOnDemand) return
    if ((await view.lookUp(service)) === null) await this.#wanted.wait(service)
  }
}
