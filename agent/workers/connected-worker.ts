/**
 * Owns one worker as the control process sees it: its line, what waits to be told, and what it has
 * said of itself. It decides nothing.
 */

import type { Socket } from 'node:net'
import type { TrustEpochs } from '#shared/model/trust.ts'
import { LineSocket } from './line-socket.ts'
import type { FromWorker, ListeningState, ToWorker, WorkerPhase } from './messages.ts'
import { Outbox } from './outbox.ts'

/** A connected worker, for `meshctl status`. */
export interface WorkerState {
  readonly generation: number
  readonly index: number
  readonly pid: number
  readonly protocol: number
  /** Of its program; empty where it does not tell. */
  readonly version: string
  /** What it was last told to do; null: nothing yet. */
  readonly phase: WorkerPhase | null
  /** Milliseconds since the epoch; 0 where it does not tell. */
  readonly startedAtMs: number
  /** When it began to retire; 0: it does not. */
  readonly retiringSinceMs: number
  /** Connections and streams it carries, when last asked. */
  readonly open: number
  /** Sequence of the snapshot it acts on. */
  readonly applied: number
  /** Of the trust it acts on; zeros until it has said so. */
  readonly trust: TrustEpochs
  readonly listening: ListeningState
  /** How often a worker in its place has ended without a goodbye. */
  readonly crashes: number
  /** What it captures; null: it knows of no capture. */
  readonly capturing: { readonly sequence: number; readonly open: readonly number[] } | null
}

/** Values every worker must know, in the order in which one that connects hears them. */
export const valueKinds = ['trust', 'credentials', 'snapshot', 'capture'] as const

/** One of them. */
export type ValueKind = (typeof valueKinds)[number]

/** An answer to a `collect`. */
export type WorkerCounters = Extract<FromWorker, { readonly kind: 'counters' }>

/** See the header. */
export class ConnectedWorker {
  readonly line: LineSocket<FromWorker, ToWorker>
  readonly outbox: Outbox<ValueKind>
  /** Whether it acts on a snapshot, be it of an earlier control process. */
  serving = false
  /** It has said goodbye. */
  leaving = false
  state: WorkerState | null = null
  /** Who waits for which answer, and is told null when there will be none. */
  readonly waiting = new Map<number, (answer: WorkerCounters | null) => void>()

  constructor(socket: Socket) {
    this.line = new LineSocket(socket)
    this.outbox = new Outbox({ sink: this.line })
    this.line.onDrain(() => this.outbox.drained())
  }
}
