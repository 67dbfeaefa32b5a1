/** Owns the seam between the demo and the process it runs in. Types only. */

/** What the demo asks of its process. */
export interface Machine {
  readonly pid: number
  readonly isRoot: boolean
  /** The Node binary in use. */
  readonly node: string
  /** Environment of the programs it starts. */
  readonly environment: Readonly<Record<string, string>>
  isAlive: (pid: number) => boolean
  /** Kills a process group; nothing happens when it is gone. */
  killGroup: (pid: number) => void
}
