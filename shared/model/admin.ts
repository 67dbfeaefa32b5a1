/**
 * Owns what an agent tells about itself on its admin socket, as plain data that `meshctl` prints and
 * the checks judge: how it stands as a whole. Facts only: no advice, no secrets. What it tells of one
 * subject, and what it is told to do, is in the files `admin-*.ts` beside.
 */

import type { CaptureReport } from './admin-capture.ts'
import type { PoliciesReport } from './admin-policies.ts'
import type { ExternalReport, ManifestReport, ServiceReport } from './admin-services.ts'
import type { WorkerReport } from './admin-workers.ts'

/** Whether something works, and since when it does not. */
export type Contact =
  /** `atMs` is when it answered last, where that is known. */
  | { readonly kind: 'up'; readonly atMs?: number }
  | { readonly kind: 'down'; readonly sinceMs: number; readonly reason: string }
  /** Not tried yet, or not needed. */
  | { readonly kind: 'unknown' }

/** `GET /v1/status`. Times are milliseconds since the epoch. */
export interface StatusReport {
  readonly host: string
  readonly zone: string
  /** The address other hosts are told to reach this one at. */
  readonly address: string
  /** Empty until the host has enrolled. */
  readonly trustDomain: string
  readonly version: string
  readonly pid: number
  readonly startedAtMs: number
  /** The agent's clock when it answered. */
  readonly nowMs: number
  readonly ready: boolean
  /** What readiness waits for; empty when ready. */
  readonly waitsFor: string
  readonly store: Contact
  /**
   * How long this host could go on with controller and store away, and the identity whose certificate
   * ends first; null while it has none, or no view of the mesh.
   */
  readonly outageBudget: { readonly ms: number; readonly endsFirst: string } | null
  readonly controller: { readonly address: string; readonly contact: Contact }
  readonly snapshot: SnapshotReport
  readonly manifestDirectory: ManifestDirectoryReport
  /** Workers a generation has. */
  readonly workersWanted: number
  readonly capture: CaptureReport
  readonly workers: readonly WorkerReport[]
  /** Why the whole host is out of rotation; null while it is not. */
  readonly maintenance: { readonly sinceMs: number; readonly reason: string } | null
  /** What the machine says of itself; empty until it was asked. */
  readonly facts: Readonly<Record<string, string>>
}

/** Where the manifests are read. */
export interface ManifestDirectoryReport {
  readonly path: string
  /** What is wrong with it, or with one of a user in it; empty while nothing is, as what follows. */
  readonly problem: string
  readonly cause: string
  readonly fix: string
}

/** The view in use. */
export interface SnapshotReport {
  readonly revision: number
  readonly sequence: number
  /** When the store last vouched for it, now while its session is up; 0 where that is not known. */
  readonly vouchedAtMs: number
  /** `disk` is the last good view of an earlier run. */
  readonly source: 'store' | 'disk' | 'none'
  readonly services: number
  readonly instances: number
  readonly hosts: number
  /** What it is of: the whole mesh, or the services in use on this host. */
  readonly of: 'whole-mesh' | 'services-in-use'
  /** Services in use: named by manifests, called or asked for. */
  readonly inUse: number
  /** Hosts that the store has lost sight of, kept because they answer. */
  readonly hostsKept: readonly string[]
  /** Records of the store that were rejected, and the first few, each by its key with the reason. */
  readonly rejected: number
  readonly problems: readonly string[]
}

/** What became of a reload of the config. */
export interface ReloadReport {
  /** Keys that differed and count now. */
  readonly applied: readonly string[]
  /** Keys that differ from what runs, and what it takes for them to count. */
  readonly waiting: readonly { readonly key: string; readonly needs: string }[]
}

/** One identity of `GET /v1/certificates`. */
export interface CertificateReport {
  /** A SPIFFE id. */
  readonly identity: string
  /** Hexadecimal; empty where there is no certificate. */
  readonly serial: string
  /** 0 where there is no certificate. */
  readonly notBeforeMs: number
  readonly notAfterMs: number
  /** The last refusal or failure to get or renew it; empty otherwise. */
  readonly problem: string
  /** Stable code of the problem; empty where there is none. */
  readonly code: string
  /** What to do about the problem; may be empty. */
  readonly hint: string
}

/** One line of `GET /v1/checks`. */
export interface CheckReport {
  /** Stable, with the anchor of `docs/checks.md`. */
  readonly name: string
  readonly verdict: 'ok' | 'warning' | 'failed' | 'skipped'
  /** What was found, with names and numbers. */
  readonly finding: string
  /** The likely cause; empty when ok. */
  readonly cause: string
  /** What to do; empty when ok. */
  readonly fix: string
}

/** Every fact the checks judge. */
export interface AgentFacts {
  readonly status: StatusReport
  readonly services: readonly ServiceReport[]
  readonly external: readonly ExternalReport[]
  readonly manifests: readonly ManifestReport[]
  readonly certificates: readonly CertificateReport[]
  readonly policies: PoliciesReport
  readonly machine: MachineReport
}

/** What the machine has left for its agent. Null is what the kernel does not tell. */
export interface MachineReport {
  /** Files a worker may have open, of the one that may fewest. */
  readonly openFiles: number | null
  /** Connections of callers that a worker may be given. */
  readonly callersWanted: number
  readonly memoryFreeBytes: number | null
  readonly stateDirectory: string
  /** On its file system. */
  readonly stateFreeBytes: number | null
  /** Connections the kernel tracks, and may. */
  readonly connectionsTracked: number | null
  readonly connectionsTrackedMost: number | null
  /** Ports that outgoing connections may use. */
  readonly localPorts: number | null
}

/** An answer that is not the thing asked for. */
export interface AdminProblem {
  readonly error: { readonly code: string; readonly message: string; readonly hint?: string }
}
