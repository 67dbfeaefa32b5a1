/**
 * Owns which port a caller's connections arrive at: each generation of workers has a stretch of the
 * range to itself, so that a new one opens all its ports before the maps lead there. Pure.
 */

import type { PortRange } from '#shared/model/port-range.ts'

/** Ports of a generation; at most three live at once. */
const stretch = 1000
const generations = 3

/** How many callers a host can tell apart; a port is not given to another one within a day. */
export const callerBook = { count: stretch - 1, quarantineMs: 86_400_000 } as const

/** The index of everybody who is no known caller. */
export const unknownCaller = 0

/** All ports of callers where the range begins at `first`. */
export function callerPortRange(first: number): PortRange {
  return { first, last: first + stretch * generations - 1 }
}

/** The port of a caller's index in a generation. */
export function callerPort(first: number, generation: number, index: number): number {
  return first + (generation % generations) * stretch + index
}

/** The index that a port of callers is for, in whichever generation. */
export function callerIndex(first: number, port: number): number {
  return (port - first) % stretch
}
