/** Owns what an agent tells on its admin socket of its workers, their generations and the ports they open. */

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
