/**
 * Owns which programs the agent is made of and how Node runs each: the flags of V8, and what a worker
 * is told of the config. One place says so, for the supervisor and for unit files alike.
 */

import type { LogLevel } from '#shared/logging/logger.ts'

/** The programs that start in `main.ts`. */
export const roles = ['control', 'proxy', 'guard', 'supervise'] as const
export type Role = (typeof roles)[number]

/**
 * Flags of V8. A worker's bodies pass through buffers outside the heap, up to 64 KiB each: by default
 * V8 marks the whole heap again for every 64 MiB of them, and with the first flag alone for little more
 * while the heap is small; both together leave them to the cheap minor collections. The others have
 * time, and by default let 32 MiB of garbage lie before they look; and the control process's heap would
 * grow to several times what is alive in it after every storm of changes.
 */
export const flagsOf: Readonly<Record<Role, readonly string[]>> = {
  control: ['--max-semi-space-size=2', '--heap-growing-percent=30'],
  proxy: ['--external-memory-accounted-in-global-limit', '--initial-old-space-size=64'],
  guard: ['--max-semi-space-size=1'],
  supervise: ['--max-semi-space-size=1'],
}

/** All a worker needs of the config: the rest comes from the control process. */
export interface WorkerSlice {
  readonly runDirectory: string
  readonly drainMs: number
  readonly logLevel: LogLevel
}
