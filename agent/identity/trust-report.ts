/**
 * Owns what this host tells controllers about the trust it acts on: the epochs all its workers have
 * taken over, the certificates it holds by root, and the handshakes its workers counted by root. The
 * last are looked at only while there is more than one root to tell apart.
 */

import type { CounterDump, CredentialMessage } from '#agent/workers/messages.ts'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { Gathering } from '#shared/lifecycle/gathering.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { HostName } from '#shared/model/names.ts'
import type { TrustEpochs, TrustReport } from '#shared/model/trust.ts'
import type { NamedRoots } from '#shared/pki/root-name.ts'
import { rootOfChain } from '#shared/pki/root-name.ts'
import { encodeTrust } from '#shared/schema/trust.ts'
import type { Trust } from './trust-keeper.ts'

/** What a report is made of. */
export interface TrustReporterParts {
  readonly clock: Clock
  readonly trust: () => Trust | null
  /** Why the newest trust is not on the disk; empty while it is. */
  readonly problem: () => string
  /** The same array while the same is held. */
  readonly credentials: () => readonly CredentialMessage[]
  /** What each worker has taken over. */
  readonly workers: () => readonly TrustingWorker[]
  readonly collect: () => Promise<CounterDump>
  /** Told the report, as text for the store, whenever it changes. */
  readonly publish: (text: string) => void
}

/** A worker as far as a report tells of it. */
export interface TrustingWorker {
  readonly generation: number
  readonly index: number
  readonly trust: TrustEpochs
}

/** What was held, and under which of the roots there were. */
interface KnownRoots {
  readonly roots: NamedRoots | null
  readonly credentials: readonly CredentialMessage[]
  readonly rootOf: WeakMap<CredentialMessage, string>
  readonly held: Readonly<Record<string, number>>
}

/** How often handshakes are counted while there are two roots. */
const countMs = 1000

/** See the header. */
export class TrustReporter {
  readonly #parts: TrustReporterParts
  readonly #host: HostName
  #handshakes: Readonly<Record<string, number>> = {}
  readonly #asked: Gathering
  #timer: Timer | null = null
  #text = ''
  /** The root of each credential held, under these roots. */
  #known: KnownRoots = { roots: null, credentials: [], rootOf: new WeakMap(), held: {} }
  #stopped = false

  constructor(parts: TrustReporterParts, settings: { readonly host: HostName }) {
    this.#parts = parts
    this.#host = settings.host
    const { clock } = parts
    this.#asked = new Gathering({ clock, run: () => this.refresh() }, { gatherMs: 50 })
  }

  /** Something it tells of may have changed; a host with many services says so at every step of each. */
  ask(): void {
    this.#asked.ask()
  }

  /** Looks at once. */
  refresh(): void {
    const trust = this.#parts.trust()
    if (trust === null || this.#stopped) return
    if (trust.roots.size > 1) this.#countLater()
    const report: TrustReport = {
      host: this.#host,
      epochs: this.#epochs(trust),
      held: this.#held(trust),
      handshakes: trust.roots.size > 1 ? this.#handshakes : {},
      problem: (this.#lagging(trust) || this.#parts.problem()).slice(0, 500),
    }
    const text = encodeTrust(report)
    if (text === this.#text) return
    this.#text = text
    this.#parts.publish(text)
  }

  /** Tells nothing any more. */
  stop(): void {
    this.#stopped = true
    this.#asked.stop()
    this.#timer?.stop()
  }

  /** What everybody here acts on; zeros until this host has enrolled. */
  get epochs(): TrustEpochs {
    const trust = this.#parts.trust()
    return trust === null ? { bundle: 0, bans: 0 } : this.#epochs(trust)
  }

  #epochs(trust: Trust): TrustEpochs {
    const all = [trust.epochs, ...this.#parts.workers().map((worker) => worker.trust)]
    return {
      bundle: Math.min(...all.map(({ bundle }) => bundle)),
      bans: Math.min(...all.map(({ bans }) => bans)),
    }
  }

  /** Which worker keeps this host behind, or an empty string. */
  #lagging({ epochs }: Trust): string {
    for (const { generation, index, trust } of this.#parts.workers()) {
      if (trust.bundle >= epochs.bundle && trust.bans >= epochs.bans) continue
      return `worker ${index} of generation ${generation} does not act on it yet`
    }
    return ''
  }

  #held(trust: Trust): Readonly<Record<string, number>> {
    const credentials = this.#parts.credentials()
    const isSameTrust = trust.roots === this.#known.roots
    if (isSameTrust && credentials === this.#known.credentials) return this.#known.held
    const held: Record<string, number> = {}
    // A host may hold a thousand certificates, and each change of one asks for all of them.
    const rootOf = isSameTrust ? this.#known.rootOf : new WeakMap<CredentialMessage, string>()
    for (const credential of credentials) {
      let root = rootOf.get(credential)
      if (root === undefined) {
        root = rootOfChain(credential.chainPem, trust.roots) ?? 'unknown'
        rootOf.set(credential, root)
      }
      held[root] = (held[root] ?? 0) + 1
    }
    this.#known = { roots: trust.roots, credentials, rootOf, held }
    return held
  }

  #countLater(): void {
    this.#timer ??= this.#parts.clock.after(countMs, () => void this.#count())
  }

  async #count(): Promise<void> {
    const { series } = await this.#parts.collect()
    const counts: Record<string, number> = {}
    for (const { metric, labels, value } of series) {
      if (metric !== agentMetrics.handshakesByRoot.name) continue
      const root = labels['root'] ?? 'unknown'
      counts[root] = (counts[root] ?? 0) + value
    }
    this.#handshakes = counts
    this.#timer = null
    this.refresh()
  }
}
