/**
 * Owns the facts of the machine that stand in its host record: for inventories, never for decisions.
 * Home of systeminformation, which starts programs; it is asked once, after the start.
 */

import { cpu, mem, osInfo, system } from 'systeminformation'
import type { HostFacts } from '#shared/model/records.ts'

/** Asks the machine; what it does not say is left out. */
export async function askHostFacts(): Promise<HostFacts> {
  const [os, processor, memory, machine] = await Promise.all([osInfo(), cpu(), mem(), system()])
  const facts = {
    os: [os.distro, os.release].filter((word) => word !== '').join(' '),
    kernel: os.kernel,
    arch: os.arch,
    model: [machine.manufacturer, machine.model].filter((word) => word !== '').join(' '),
    cpus: String(processor.cores),
    memoryMiB: String(Math.round(memory.total / 1024 / 1024)),
    virtual: machine.virtual ? machine.virtualHost || 'yes' : 'no',
  }
  return Object.fromEntries(
    Object.entries(facts)
      .map(([name, text]) => [name, text.slice(0, 100)] as const)
      .filter(([, text]) => text !== ''),
  )
}
