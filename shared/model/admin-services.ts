/**
 * Owns what an agent tells on its admin socket of services: those of the mesh with their instances, those
 * outside, and what became of the manifests of its own.
 */

import type { InstanceLabels } from './instance-labels.ts'
import type { PublishedInstance } from './receipt.ts'

/** `GET /v1/external`: a service outside the mesh that a manifest of this host names. */
export interface ExternalReport {
  readonly service: string
  readonly file: string
  readonly protocol: string
  /** As the manifest says. */
  readonly addresses: readonly string[]
  readonly port: number
  /** `originate`: the agent speaks TLS to it; `pass`: bytes go on as they come. */
  readonly tls: 'pass' | 'originate'
  /** Addresses of the world that lead to it through the mesh. */
  readonly intercept: readonly string[]
  /** Where it is called now. */
  readonly endpoints: readonly { readonly address: string; readonly said: string }[]
  /** Names that do not resolve, roots that cannot be read; what was known last counts meanwhile. */
  readonly problems: readonly string[]
}

/** One service of `GET /v1/services`. */
export interface ServiceReport {
  readonly name: string
  readonly protocol: string
  /** Its virtual IPs on this host; none while nothing is captured here. */
  readonly addresses: readonly string[]
  /** Its ports by name, each with virtual IPs of its own. */
  readonly ports: readonly {
    readonly name: string
    readonly protocol: string
    readonly addresses: readonly string[]
  }[]
  readonly instances: readonly InstanceReport[]
  /** A manifest of this host says where it is outside the mesh. */
  readonly outside?: true
}

/** One instance of a service. */
export interface InstanceReport extends InstanceLabels, PublishedInstance {
  /** Whether it runs on the answering host. */
  readonly local: boolean
}

/** One file of `GET /v1/manifests`. */
export interface ManifestReport {
  readonly file: string
  /** Empty where the file could not be read so far. */
  readonly service: string
  readonly verdict: 'accepted' | 'rejected'
  /**
   * When this run of the agent's control process reached that, milliseconds since the epoch. An agent of an
   * earlier version does not tell.
   */
  readonly judgedAtMs?: number
  /** One line each, with file, line and column. */
  readonly problems: readonly string[]
  /** What is accepted, but should be known. An agent of an earlier version does not tell. */
  readonly warnings?: readonly string[]
  /** Services it calls through explicit listeners. */
  readonly upstreams: readonly string[]
  /** Services it cannot do without, beside its upstreams. */
  readonly requires: readonly string[]
  /** The unit of systemd that `run` or a check names; empty where none does. */
  readonly unit: string
  /** What the health check says; `none` for a pure caller. */
  readonly health: 'passing' | 'warning' | 'failing' | 'starting' | 'none'
  /** Why the check does not pass; empty otherwise. */
  readonly healthDetail: string
  /** Since when it says so, milliseconds since the epoch; 0 for a pure caller. */
  readonly healthSinceMs: number
  /** Named ports whose checks fail, each with what was seen. */
  readonly portsDown: readonly string[]
  /** Whether other hosts are told of the instance. */
  readonly published: boolean
  /** Why they are not; empty where they are, and where there is nothing to tell of. */
  readonly withheld: string
  /** How it was found to speak; empty before it was asked. */
  readonly speech: string
  /** Why its declared protocol cannot be that; empty otherwise. */
  readonly mismatch: string
  /** The store's revision with which they were told; 0 while they are not. */
  readonly revision: number
  /**
   * Whether it takes part: `leaving` when an operator has taken it out and callers may still come, `out`
   * when none can.
   */
  readonly rotation: 'in' | 'leaving' | 'out'
  /** Requests and connections open to it while it leaves; null: not known, or it does not leave. */
  readonly open: number | null
  /** When the service's certificate ends; 0 where there is none. */
  readonly certificateEndsMs: number
}
