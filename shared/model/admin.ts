/**
 * Owns what an agent tells about itself on its admin socket, as plain data that `meshctl` prints and
 * the checks judge. Facts only: no advice, no secrets. Longer than most: it is one protocol.
 */

import type { DefaultPolicy, PolicyMode, RuleRef } from './policy.ts'
import type { InstanceLabels } from './instance-labels.ts'

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
   * ends first; null while it has none.
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

/** Whether the kernel leads connections of local programs into the mesh, and whose. */
export interface CaptureReport {
  /** `lifted` by an operator; `off` by config or for want of a right. */
  readonly kind: 'on' | 'off' | 'waiting' | 'failed' | 'lifted'
  /** Why it is not on; empty while it is. */
  readonly reason: string
  /** What to do about it; may be empty. */
  readonly hint: string
  readonly callers: readonly CallerReport[]
  /** How many addresses and ports are captured. */
  readonly destinations: number
  /** What services here may reach outside the mesh. */
  readonly egress: 'allow-any' | 'registry-only'
  /** What was asked for and is not captured, and why. */
  readonly problems: readonly string[]
  /** Who has switched it off; null while nobody has. */
  readonly lifted: LiftReport | null
  /** Services that bypass the mesh. */
  readonly bypasses: readonly BypassReport[]
}

/** Who took something out of capture, when, and why. */
export interface LiftReport {
  readonly sinceMs: number
  readonly reason: string
  readonly by: string
}

/** A service that bypasses the mesh for a time. */
export interface BypassReport extends LiftReport {
  readonly service: string
  readonly untilMs: number
}

/** `GET /v1/capture/explain?to=…&user=…`: what becomes of a connection of a local user. */
export type CaptureExplanation =
  | {
      readonly kind: 'captured'
      readonly service: string
      /** The service the user is known as; null: it has the host's identity. */
      readonly caller: string | null
      /** Where the kernel leads it, for those who look there. */
      readonly port: number
    }
  /** Goes where it is going, without the mesh. */
  | { readonly kind: 'direct'; readonly why: string }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'bad-question'; readonly problem: string }

/** A local service as a caller. */
export interface CallerReport {
  readonly service: string
  /** The number of the user it is known by, or of whom its unit runs as; null where there is none. */
  readonly user: number | null
  /** The unit it is known by; null where it is known by its user. */
  readonly unit: string | null
  /** Why it is known by none, or that its port is in wrong hands; empty otherwise. */
  readonly problem: string
  readonly inbound: 'off' | 'permissive' | 'strict'
}

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

/** Where the manifests are read. */
export interface ManifestDirectoryReport {
  readonly path: string
  /** Why it cannot be read; empty while it can. */
  readonly problem: string
}

/** The view in use. */
export interface SnapshotReport {
  readonly revision: number
  readonly sequence: number
  /** When it was built; 0 before the first. */
  readonly builtAtMs: number
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

/** One set of workers and the connections they carry. */
export interface GenerationReport {
  readonly generation: number
  /** `standby`: ready or getting ready; `live`: takes connections; `retiring`: finishes what it has. */
  readonly phase: 'standby' | 'live' | 'retiring'
  /** Of the programs; more than one only where a worker has been started again by another version. */
  readonly versions: readonly string[]
  /** Of the protocol between them and the control process. */
  readonly protocols: readonly number[]
  /** Milliseconds since the epoch; 0: it does not tell. */
  readonly startedAtMs: number
  /** When the last connections of a retiring one are cut; 0: it does not retire. */
  readonly untilMs: number
  readonly workers: readonly {
    readonly index: number
    readonly pid: number
    /** Connections and streams it carries. */
    readonly open: number
  }[]
}

/** A proxy worker. */
export interface WorkerReport {
  readonly generation: number
  readonly index: number
  readonly pid: number
  readonly protocol: number
  /** Of its program; empty where it does not tell. */
  readonly version: string
  /** What it was last told to do; null: nothing yet. */
  readonly phase: GenerationReport['phase'] | null
  /** Sequence of the snapshot it acts on. */
  readonly applied: number
  /** How often a worker in its place has ended without a goodbye since the agent started. */
  readonly crashes: number
  /** Epochs of the trust it acts on. */
  readonly trust: { readonly bundle: number; readonly bans: number }
  readonly tunnelPort: number
  readonly listeners: readonly ListenerReport[]
}

/** A port a worker was asked to open. */
export interface ListenerReport {
  readonly name: string
  readonly address: string
  readonly port: number
  /** Empty while it is open. */
  readonly problem: string
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
export interface InstanceReport extends InstanceLabels {
  readonly host: string
  readonly id: string
  readonly port: number
  readonly ports?: readonly {
    readonly name: string
    readonly port: number
    readonly protocol: string
    readonly down?: true
  }[]
  readonly weight: number
  /** Whether it runs on the answering host. */
  readonly local: boolean
}

/** One file of `GET /v1/manifests`. */
export interface ManifestReport {
  readonly file: string
  /** Empty where the file could not be read so far. */
  readonly service: string
  readonly verdict: 'accepted' | 'rejected'
  /** One line each, with file, line and column. */
  readonly problems: readonly string[]
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

/** `GET /v1/policies`. */
export interface PoliciesReport {
  readonly directory: { readonly path: string; readonly problem: string }
  readonly files: readonly PolicyFileReport[]
  readonly services: readonly ServicePolicyReport[]
}

/** One policy file. */
export interface PolicyFileReport {
  readonly file: string
  readonly verdict: 'accepted' | 'rejected'
  /** One line each, with file, line and column. */
  readonly problems: readonly string[]
  /** What it selects, as far as it is in force. */
  readonly services: readonly string[]
  readonly mode: PolicyMode
}

/** What holds for one service of the answering host. */
export interface ServicePolicyReport {
  readonly service: string
  /** Whether anything is allowed or denied in earnest. */
  readonly strict: boolean
  readonly fallback: DefaultPolicy
  /** How many rules there are, those in audit mode included. */
  readonly deny: number
  readonly allow: number
  /** Whether a policy in audit mode is about it. */
  readonly audit: boolean
  readonly protection: 'not-needed' | 'locked' | 'local-only' | 'unprotected'
  /** Why it is not fully protected; empty otherwise. */
  readonly note: string
  /** Rules that do not do what they say, and why. */
  readonly idle: readonly string[]
}

/** What one rule says of a call. */
export interface RuleFinding {
  readonly effect: 'deny' | 'allow'
  readonly mode: PolicyMode
  readonly ref: RuleRef
  /** `depends` where a request would have to be looked into. */
  readonly outcome: 'fits' | 'misses' | 'ambiguous' | 'depends'
  readonly why: string
}

/** Whether a call is permitted, and why. */
export interface CallExplanation {
  readonly verdict: 'permitted' | 'denied' | 'depends'
  /** Empty unless denied. */
  readonly reason: string
  /** The rule or default in words. */
  readonly by: string
  readonly ref: RuleRef | null
  /** What a policy in audit mode would say against it; null where nothing. */
  readonly audit: string | null
  readonly rules: readonly RuleFinding[]
}

/** `GET /v1/authz/explain?source=…&service=…&method=…&path=…`. */
export type AuthzAnswer =
  | ({
      readonly kind: 'explained'
      /** Empty for a program without an identity. */
      readonly source: string
      readonly destination: string
      readonly port: number
      readonly protocol: string
      /** As rules see it; empty without one, or where it is ambiguous. */
      readonly path: string
    } & CallExplanation)
  /** The service is no service of the answering host, but of these. */
  | { readonly kind: 'elsewhere'; readonly service: string; readonly hosts: readonly string[] }
  | { readonly kind: 'bad-question'; readonly problem: string }

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

/** `POST /v1/health`: the result of a push check, brought to the agent. */
export interface HealthResult {
  readonly service: string
  /** Name of the check, where the service has several that wait for results. */
  readonly check?: string
  readonly outcome: 'pass' | 'warn' | 'fail'
  /** What was seen, for people. */
  readonly detail: string
}

/** `POST /v1/rotation`: takes a service of the agent's host, or the host, out of rotation or back. */
export interface RotationWish {
  /** Name of a service of this host, or of the host. */
  readonly target: string
  readonly withdrawn: boolean
  /** For those who wonder later. Who puts back may give one: then it puts back what is out for that one. */
  readonly reason: string
}

/** `POST /v1/capture`: switches capture off on the agent's host, or on again. */
export interface CaptureWish {
  readonly wish: 'on' | 'off'
  readonly reason: string
  /** Who wishes it. */
  readonly by: string
}

/** `POST /v1/bypass`: takes one service out of capture for a time. */
export interface BypassWish {
  readonly service: string
  /** 0 ends it. */
  readonly forMs: number
  readonly reason: string
  readonly by: string
}
