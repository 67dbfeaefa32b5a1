/**
 * Owns what must be so before `meshctl init` or `join` touches a host: everything that is in the way
 * is found first and told together, and then nothing has been changed.
 */

import { createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { existsSync, readFileSync } from 'node:fs'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { ServiceUnits } from './client/service-units.ts'
import { machineProblems, type MachineFacts } from './machine-fitness.ts'

/** What a verb is about to do. */
export interface PreflightSettings {
  readonly isRoot: boolean
  /** The configs it needs, by path; see `holdsAll`. */
  readonly files: Readonly<Record<string, string>>
  readonly units: readonly string[]
  /** Ports that must be free, unless the unit that takes them already runs. */
  readonly ports: readonly { readonly unit: string; readonly port: number }[]
}

/** What is in the way, in words with a fix each; empty when nothing is. */
export async function preflight(
  parts: { readonly units: ServiceUnits; readonly machine: () => MachineFacts },
  settings: PreflightSettings,
): Promise<readonly string[]> {
  const found: string[] = []
  if (!settings.isRoot) found.push('this needs root: run it with sudo')
  if (!parts.units.running) {
    found.push('systemd does not run this host: start the programs as docs/operations.md tells')
  } else {
    const missing = settings.units.filter((unit) => !parts.units.has(unit))
    if (missing.length > 0) found.push(`no unit ${missing.join(', ')}: install the package first`)
  }
  if (settings.isRoot) {
    found.push(...machineProblems(parts.machine(), !Object.keys(settings.files).some(isUncaptured)))
  }
  for (const [path, text] of Object.entries(settings.files)) {
    if (existsSync(path) && !holdsAll(readFileSync(path, 'utf8'), text))
      found.push(`${path} is there already and says something else: this host is set up, or was`)
  }
  for (const { unit, port } of settings.ports) {
    if (parts.units.isActive(unit)) continue
    const problem = await portProblem(port)
    if (problem !== '') found.push(problem)
  }
  return found
}

/** Whether a config is there that switches capture off. */
function isUncaptured(path: string): boolean {
  return existsSync(path) && holdsAll(readFileSync(path, 'utf8'), '{"capture":"off"}')
}

/** Whether the config of a host sets whatever `wanted` does; what else it sets is its author's own. */
export function holdsAll(text: string, wanted: string): boolean {
  try {
    const there = JSON.parse(text) as Readonly<Record<string, unknown>> | null
    return Object.entries(JSON.parse(wanted) as object).every(
      ([key, value]) => JSON.stringify(there?.[key]) === JSON.stringify(value),
    )
  } catch {
    return false
  }
}

/** Writes configs that are not there yet; what passed `preflight` is kept as it is. */
export async function writeMissing(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    if (!existsSync(path)) await writeFileAtomic(path, text, { mode: 0o644 })
  }
}

/** Says that an address must be named with that option. */
export function noAddress(option: string): string {
  return `this host has no address but loopback: name one with ${option}`
}

/** The first address other hosts may reach this one at; null where there is none. */
export function firstAddress(): string | null {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  const outer = all.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
  return (outer.find(({ family }) => family === 'IPv4') ?? outer[0])?.address ?? null
}

function portProblem(port: number): Promise<string> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      const inUse = error.code === 'EADDRINUSE'
      resolve(
        inUse ? `port ${port} is taken: ss -ltnp 'sport = ${port}' tells by whom` : error.message,
      )
    })
    server.listen(port, () => server.close(() => resolve('')))
  })
}
