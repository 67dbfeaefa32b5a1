/**
 * Owns the health check: how the agent tells whether a local service works, after defaults. A service
 * may have several; `shared/schema/health.ts` reads them.
 */

import type { Port, PortName } from './names.ts'

/** What is looked at. Connections go to the service's address only; `port` is its own unless given. */
export type CheckSubject =
  | { readonly kind: 'tcp'; readonly port?: Port }
  /** 200 to 399 passes, 429 warns. */
  | { readonly kind: 'http'; readonly port?: Port; readonly path: string }
  /** grpc.health.v1, of one service of the server or, when empty, of the server itself. */
  | { readonly kind: 'grpc'; readonly port?: Port; readonly grpcService: string }
  | { readonly kind: 'systemd'; readonly unit: string }
  /** Results are brought to the agent, and end by themselves. */
  | { readonly kind: 'push'; readonly ttlMs: number }

/** See the header. */
export type HealthCheck = CheckSubject & {
  /** Unique among the checks of a service. */
  readonly name: string
  /** The named port it is about; absent for the service as a whole. */
  readonly portName?: PortName
  readonly intervalMs: number
  readonly timeoutMs: number
  /** Results in a row that take a failing instance up. */
  readonly rise: number
  /** Results in a row that take an instance down, or to a warning. */
  readonly fall: number
  /** What counts until the first verdict. */
  readonly initial: 'failing' | 'passing'
}

/** What one check found. */
export type CheckOutcome = 'pass' | 'warn' | 'fail'
