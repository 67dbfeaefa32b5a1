/**
 * Owns the protocol between the control process and its proxy workers: newline-delimited JSON over
 * a unix socket, versioned so that a new control process still feeds older workers (N and N-1).
 * A worker connects; the control process welcomes it, sends whole values and then what changes of them.
 */

import type { LogLevel } from '#shared/logging/logger.ts'
import type { ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { PortRange } from '#shared/model/port-range.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { TargetName } from '#shared/model/target.ts'
import type { Bans, TrustEpochs } from '#shared/model/trust.ts'
import type { SnapshotChanges } from './snapshot-changes.ts'

/**
 * The newest protocol this code speaks, and the oldest. 1: workers serve from the moment they have a
 * view. 2: the control process tells each generation its phase. 3: it tells what changed of the view
 * and of the credentials. 4: also of the instances of this host.
 */
export const protocol = { newest: 4, oldest: 1 } as const satisfies {
  newest: number
  oldest: number
}

/** The version from which on workers are told what changed of what they were told before. */
export const changesSince = 3

/** The same for the instances of their host, of which there may be a thousand. */
export const localChangesSince = 4

/** A certificate with its key, as a worker needs it. Never logged, never written by a worker. */
export interface CredentialMessage {
  readonly id: SpiffeId
  /** Leaf first, then intermediates, PEM. */
  readonly chainPem: string
  /** PKCS#8 PEM. */
  readonly keyPem: string
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
  /** Hexadecimal. */
  readonly serial: string
}

/**
 * Where a worker is in its life: `standby` makes everything ready and takes no connections, `live`
 * takes them, `retiring` finishes what it has and ends.
 */
export type WorkerPhase = 'standby' | 'live' | 'retiring'

/** Settings that count at once, also for workers that serve. */
export interface LiveWorkerSettings {
  readonly accessLog: WorkerSettings['accessLog']
  readonly logLevel: LogLevel
}

/** Why a service that was asked for does not come: there is none, or it could not be looked for. */
export type NotFound = 'unknown' | 'away' | 'overloaded'

/** What the control process says. */
export type ToWorker =
  | { readonly kind: 'welcome'; readonly protocol: number; readonly settings: WorkerSettings }
  | {
      readonly kind: 'trust'
      readonly bundlePem: string
      readonly trustDomain: TrustDomain
      readonly bans: Bans
      readonly epochs: TrustEpochs
    }
  /** The whole set of credentials; what is not in it is gone. */
  | { readonly kind: 'credentials'; readonly credentials: readonly CredentialMessage[] }
  /** What changed of that set. */
  | {
      readonly kind: 'credential-changes'
      readonly changed: readonly CredentialMessage[]
      readonly gone: readonly SpiffeId[]
    }
  | { readonly kind: 'snapshot'; readonly snapshot: Snapshot }
  | { readonly kind: 'snapshot-changes'; readonly changes: SnapshotChanges }
  /** What captured connections mean; workers of before captures do not know it. */
  | { readonly kind: 'capture'; readonly capture: CaptureView }
  /** Answers `wanted` where the service does not come with a snapshot. */
  | { readonly kind: 'not-found'; readonly service: ServiceName; readonly why: NotFound }
  /** Asks for a `counters` message with the same number. */
  | { readonly kind: 'collect'; readonly request: number }
  /** Protocol 2: what to do with connections. `withinMs` bounds the longest ones of a retiring worker. */
  | { readonly kind: 'phase'; readonly phase: WorkerPhase; readonly withinMs: number }
  /** Protocol 2. */
  | { readonly kind: 'settings'; readonly settings: LiveWorkerSettings }
  /** Protocol 1: stop listening, finish what is open, then exit. */
  | { readonly kind: 'drain'; readonly withinMs: number }

/** What a worker says. */
export type FromWorker =
  | {
      readonly kind: 'hello'
      readonly newest: number
      readonly oldest: number
      readonly generation: number
      readonly index: number
      readonly pid: number
      /** Whether it already acts on a snapshot, of an earlier control process perhaps. */
      readonly serving: boolean
      /** Since protocol 2: of the program. */
      readonly version?: string
      /** Since protocol 2: what it was last told, of an earlier control process perhaps. */
      readonly phase?: WorkerPhase
      /** Since protocol 2: when it began, and when it began to retire (0: not yet), since the epoch. */
      readonly startedAtMs?: number
      readonly retiringSinceMs?: number
    }
  /** Where it listens now, and what it could not open; sent again whenever that changes. */
  | { readonly kind: 'listening'; readonly state: ListeningState }
  | {
      readonly kind: 'counters'
      readonly request: number
      readonly counters: CounterDump
      /** Since protocol 2: connections and streams it carries. */
      readonly open?: number
      /** Requests and connections under way to each service of this host; absent where it does not tell. */
      readonly carried?: readonly { readonly service: string; readonly open: number }[]
    }
  /** It acts on a capture view, and these indexes of callers have their ports open. */
  | { readonly kind: 'capturing'; readonly sequence: number; readonly open: readonly number[] }
  /** The trust in use, so that a root is not used before everybody trusts it. */
  | { readonly kind: 'trusted'; readonly epochs: TrustEpochs }
  /** The snapshot in use, so that readiness means ready. */
  | { readonly kind: 'applied'; readonly sequence: number }
  /** Somebody calls a service that is not in its snapshot, which does not have all there are. */
  | { readonly kind: 'wanted'; readonly service: ServiceName }
  /** Services that were called since it last said so, or carry calls now. */
  | { readonly kind: 'used'; readonly services: readonly ServiceName[] }
  /** Its last words: it ends in good order, and has counted so much. */
  | { readonly kind: 'leaving'; readonly counters: CounterDump }

/** Who is behind each port of a caller, and which target behind each virtual IP. */
export interface CaptureView {
  /** Grows, also from one control process to the next. */
  readonly sequence: number
  /** By index within a generation's ports; null: everybody who is no known caller. */
  readonly callers: readonly { readonly index: number; readonly service: ServiceName | null }[]
  readonly services: Readonly<Record<string, TargetName>>
  /** Where the ports are opened: every address, because a captured connection keeps its own. */
  readonly addresses: readonly string[]
}

/** Settings of a worker that do not change while it lives. */
export interface WorkerSettings {
  readonly tunnel: { readonly address: string; readonly port: number }
  readonly forwardProxy: { readonly address: string; readonly port: number }
  /** Address explicit listeners bind. */
  readonly explicitAddress: string
  /** Source address of dials to local instances at 127/8. */
  readonly inboundSource: string
  /** Ports of those dials; null where the kernel is to choose, absent from an older control process. */
  readonly sourcePorts?: PortRange | null
  readonly accessLog: 'on' | 'errors' | 'off'
  /** Workers of the generation. They share every port, and limits of the host among them. */
  readonly workers: number
  /** Connections of callers open at once on the host. */
  readonly maxConnections: number
  /** Where ports of captured callers begin. */
  readonly callerPorts: number
  /** What HTTP messages may take, in size and in time. */
  readonly limits: {
    readonly headBytes: number
    readonly headFields: number
    readonly headMs: number
    readonly bodyIdleMs: number
    readonly responseIdleMs: number
    readonly idleMs: number
  }
}

/** A listener that is open, or the reason why it is not. */
export interface ListenerState {
  readonly name: string
  readonly address: string
  readonly port: number
  /** Empty while it is open. */
  readonly problem: string
}

/** All listeners of a worker. */
export interface ListeningState {
  readonly tunnelPort: number
  readonly listeners: readonly ListenerState[]
}

/** Every series of a worker, cumulative since it started. */
export interface CounterDump {
  /** One entry per metric of `shared/metrics/names.ts`. */
  readonly series: readonly CounterSeries[]
}

/** One series. */
export interface CounterSeries {
  readonly metric: string
  readonly labels: Readonly<Record<string, string>>
  /** A counter's or gauge's value; a histogram's count. */
  readonly value: number
  /** A histogram's sum. */
  readonly sum?: number
  /** A histogram's cumulative bucket counts, in the order of its bounds. */
  readonly buckets?: readonly number[]
}
