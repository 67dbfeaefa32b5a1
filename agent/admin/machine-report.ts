/**
 * Owns the reading of what the machine has left for the agent, from a few small files of the kernel,
 * when somebody asks. What cannot be read is left out; it judges nothing.
 */

import { readFileSync, statfsSync } from 'node:fs'
import type { MachineReport } from '#shared/model/admin.ts'

/** What is to be looked at. */
export interface MachineQuestion {
  readonly stateDirectory: string
  /** The processes that carry connections. */
  readonly workers: readonly number[]
  /** Connections of callers that each of them may be given. */
  readonly callersWanted: number
}

/** Reads it. Never throws. */
export function machineReport(question: MachineQuestion): MachineReport {
  const { stateDirectory, workers, callersWanted } = question
  const limits = workers.flatMap((pid) => openFilesOf(pid) ?? [])
  const memory = numberIn('/proc/meminfo', /^MemAvailable: +([0-9]+) kB/m)
  const range = '/proc/sys/net/ipv4/ip_local_port_range'
  const [first, last] = [numberIn(range, /^([0-9]+)/), numberIn(range, /([0-9]+)\s*$/)]
  return {
    openFiles: limits.length === 0 ? null : Math.min(...limits),
    callersWanted,
    memoryFreeBytes: memory === null ? null : memory * 1024,
    stateDirectory,
    stateFreeBytes: freeOn(stateDirectory),
    connectionsTracked: numberIn('/proc/sys/net/netfilter/nf_conntrack_count', /^([0-9]+)/),
    connectionsTrackedMost: numberIn('/proc/sys/net/netfilter/nf_conntrack_max', /^([0-9]+)/),
    localPorts: first === null || last === null ? null : last - first + 1,
  }
}

function openFilesOf(pid: number): number | null {
  const most = textIn(`/proc/${pid}/limits`, /^Max open files +([0-9]+|unlimited)/m)
  if (most === null) return null
  return most === 'unlimited' ? Infinity : Number(most)
}

function numberIn(path: string, pattern: RegExp): number | null {
  const digits = textIn(path, pattern)
  return digits === null ? null : Number(digits)
}

function textIn(path: string, pattern: RegExp): string | null {
  try {
    return pattern.exec(readFileSync(path, 'utf8'))?.[1] ?? null
  } catch {
    return null
  }
}

function freeOn(directory: string): number | null {
  try {
    const { bavail, bsize } = statfsSync(directory)
    return bavail * bsize
  } catch {
    return null
  }
}
