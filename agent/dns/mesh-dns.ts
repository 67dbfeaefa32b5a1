/**
 * Owns the mesh's DNS as a whole: zone, server, forwarding and the way programs come to ask it. A
 * port that is taken is told and leaves the agent running: names are a convenience, traffic is not.
 */

import type { Clock, Random } from '#agent/platform.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { DnsServer } from './dns-server.ts'
import { Forwarder } from './forwarder.ts'
import { Responder, type AskedServices, type DnsOutcome } from './responder.ts'
import { SystemDns, type SystemDnsMode } from './system-dns.ts'
import { LiveNames } from './live-names.ts'
import { Zone, type NamedService } from './zone.ts'

/** What it leans on. */
export interface MeshDnsParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** The names as they stand now; null while nothing is captured. */
  readonly names: () => ReadonlyMap<string, NamedService> | null
  readonly reloadResolved: () => Promise<void>
  /** See `Responder`. */
  readonly services?: AskedServices
}

/** Settings. */
export interface MeshDnsSettings {
  readonly listen: { readonly address: string; readonly port: number }
  readonly system: SystemDnsMode
}

const dnsPort = 53

/** See the header. */
export class MeshDns {
  readonly #parts: MeshDnsParts
  readonly #server: DnsServer
  readonly #forwarder: Forwarder
  readonly #system: SystemDns
  #isListening = false
  #isPaused = false
  readonly #counts = new Map<DnsOutcome, number>()

  constructor(parts: MeshDnsParts, settings: MeshDnsSettings) {
    const { clock, logger } = parts
    const { listen, system } = settings
    this.#parts = parts
    const stubAddress = listen.port === dnsPort ? listen.address : null
    this.#system = new SystemDns(
      { clock, logger, reloadResolved: parts.reloadResolved },
      { mode: system, server: listen, stubAddress },
    )
    this.#forwarder = new Forwarder({
      ...parts,
      resolvers: () =>
        this.#system.servers
          .filter((address) => address !== listen.address)
          .map((address) => ({ address, port: dnsPort })),
    })
    const responder = new Responder({
      zone: new Zone({ names: new LiveNames({ names: parts.names }) }),
      forwarder: this.#forwarder,
      ...(parts.services === undefined ? {} : { services: parts.services }),
      count: (outcome) => this.#counts.set(outcome, (this.#counts.get(outcome) ?? 0) + 1),
    })
    this.#server = new DnsServer({ logger, responder }, listen)
  }

  /** How many questions ended how. */
  get counts(): ReadonlyMap<DnsOutcome, number> {
    return this.#counts
  }

  /** Listens, then lets programs know. Never rejects for a port that is taken. */
  async start(): Promise<void> {
    try {
      await this.#server.start()
    } catch (error) {
      if (!(error instanceof MeshError)) throw error
      this.#parts.logger.error({ hint: error.hint }, error.message)
      return
    }
    this.#isListening = true
    if (!this.#isPaused) await this.#system.start()
  }

  /** While nothing is captured on purpose, programs ask the host's resolvers themselves. */
  setPaused(isPaused: boolean): void {
    if (isPaused === this.#isPaused) return
    this.#isPaused = isPaused
    if (!this.#isListening) return
    void (isPaused ? this.#system.stop() : this.#system.start())
  }

  /** Leaves resolver files as they were, then stops. */
  async stop(): Promise<void> {
    this.#isListening = false
    await this.#system.stop()
    this.#forwarder.stop()
    await this.#server.stop()
  }
}
