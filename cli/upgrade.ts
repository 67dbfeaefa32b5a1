/**
 * Owns `meshctl upgrade`: starts a generation of workers of the installed version beside the one that
 * serves, waits until it has taken over, and only then the control process. Where the new version does
 * not come to serve, it goes again and the former one has never stopped.
 */

import { mostGenerations } from '#shared/model/generations.ts'
import { setTimeout } from 'node:timers/promises'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { GenerationReport } from '#shared/model/admin-workers.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import type { ServiceUnits } from './client/service-units.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'

/** Collaborators. */
export interface UpgradeParts {
  readonly agent: Pick<AdminSocket, 'ask'>
  readonly units: ServiceUnits
  readonly printer: Printer
  readonly clock: Clock
}

/** Settings of an upgrade. */
export interface UpgradeSettings {
  readonly isRoot: boolean
  /** How long the new version may take to serve. @default 60000 */
  readonly patienceMs?: number
}

const agentUnit = 'mesh-agent.service'
const anyWorker = 'mesh-proxy@*.service'
const lookEveryMs = 200

/** Upgrades this host. @throws MeshError `not-upgraded` with what was in the way */
export async function upgrade(parts: UpgradeParts, settings: UpgradeSettings): Promise<number> {
  const { agent, units, printer, clock } = parts
  const { isRoot, patienceMs = 60_000 } = settings
  if (!isRoot) throw refused('this needs root', 'run it with sudo')
  if (!units.running) {
    const hint = 'where there is no systemd, SIGUSR2 to "main.ts supervise" starts a new generation'
    throw refused('systemd does not run this host', hint)
  }
  if (!units.isActive(agentUnit)) {
    throw refused(`${agentUnit} does not run`, `start it: systemctl start ${agentUnit}`)
  }
  const before = await heard()
  const { workersWanted } = await agent.ask('status')
  const former = before.find(({ phase }) => phase === 'live')
  refuseOneTooMany(before)
  const next = newestOf(before) + 1
  const workers = Array.from({ length: workersWanted }, (_, n) => `mesh-proxy@${next}-${n}.service`)
  const serving =
    former === undefined
      ? 'no worker serves'
      : `generation ${former.generation} (version ${former.versions.join(', ')}) serves on`
  printer.note(`starting generation ${next} of ${workersWanted} beside ${before.length}`)
  try {
    units.start(workers)
    await takenOver()
  } catch (error) {
    const why = workers.map((unit) => units.lastWords(unit)).find((line) => line !== '') ?? ''
    units.stop(workers)
    const hint = `nothing has changed; journalctl -u '${workers[0]}' tells more`
    const what = `the installed version does not come to serve: ${why}; ${serving}`
    throw refused(what, hint, error)
  }
  await handOverControl()
  const now = await agent.ask('generations')
  const { version } = await agent.ask('status')
  printer.result({ version, generations: now }, () => summary(version, now))
  return exitCodes.ok

  /** A control process that has just started does not know its workers yet: they come within moments. */
  async function heard(): Promise<readonly GenerationReport[]> {
    let known: readonly GenerationReport[] = []
    try {
      await until('the workers that run to be heard of', async () => {
        known = await agent.ask('generations')
        const newest = newestOf(known)
        const unheard = Array.from({ length: mostGenerations }, (_, n) => newest + 1 + n)
        const areMissing = unheard.some((n) => units.isActive(`mesh-proxy@${n}-*.service`))
        return !areMissing && (known.length > 0 || !units.isActive(anyWorker))
      })
    } catch (error) {
      throw refused('workers run that the agent does not hear', 'meshctl generations', error)
    }
    return known
  }

  async function takenOver(): Promise<void> {
    await until(`generation ${next} to take over`, async () => {
      const broken = workers.find((unit) => !units.isActive(unit))
      if (broken !== undefined) throw new MeshError(`${broken} has ended`, { code: 'unit-failed' })
      const now = await agent.ask('generations').catch(() => [])
      return (
        now.every(({ generation, phase }) => {
          return generation === next ? phase === 'live' : phase === 'retiring'
        }) && now.some(({ generation }) => generation === next)
      )
    })
  }

  /** Workers have no need of it while it is away. */
  async function handOverControl(): Promise<void> {
    try {
      units.restart(agentUnit)
      await until('the control process', async () => {
        const status = await agent.ask('status').catch(() => null)
        if (status === null && units.isLost(agentUnit)) {
          throw new MeshError(`${agentUnit} has ended`, { code: 'unit-failed' })
        }
        if (status?.ready !== true) return false
        const back = new Set(status.workers.map(({ generation }) => generation))
        return (
          back.has(next) && before.every((former) => back.has(former.generation) || ended(former))
        )
      })
    } catch (error) {
      const why = units.lastWords(agentUnit)
      const what = `the control process of the installed version does not get ready: ${why}`
      const hint =
        'workers serve on with what they know; install the former version and upgrade again'
      throw refused(what, hint, error)
    }
  }

  /** Workers look for a new control process by themselves; some may have finished meanwhile. */
  function ended({ generation, workers: former }: GenerationReport): boolean {
    return former.every(({ index }) => !units.isActive(`mesh-proxy@${generation}-${index}.service`))
  }

  async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const end = clock.elapsed() + patienceMs
    while (!(await holds())) {
      if (clock.elapsed() >= end) {
        throw new MeshError(`${patienceMs / 1000} s were not enough for ${what}`, {
          code: 'not-ready',
        })
      }
      await setTimeout(lookEveryMs)
    }
  }
}

function newestOf(generations: readonly GenerationReport[]): number {
  return Math.max(0, ...generations.map(({ generation }) => generation))
}

function refuseOneTooMany(generations: readonly GenerationReport[]): void {
  const oldest = generations.at(-1)
  if (generations.length < mostGenerations || oldest === undefined) return
  const open = oldest.workers.reduce((sum, worker) => sum + worker.open, 0)
  const units = oldest.workers.map(({ index }) => `mesh-proxy@${oldest.generation}-${index}`)
  throw refused(
    `${generations.length} generations live already; the oldest, ${oldest.generation}, still carries ${open} connections`,
    `wait until they end, at ${new Date(oldest.untilMs).toISOString()} at the latest, or cut them: systemctl stop ${units.join(' ')}`,
  )
}

function summary(version: string, generations: readonly GenerationReport[]): string {
  const lines = generations.map(({ generation, phase, versions, workers }) => {
    const open = workers.reduce((sum, worker) => sum + worker.open, 0)
    const rest = phase === 'retiring' ? `, finishes ${open} connections` : ''
    return `generation ${generation} (version ${versions.join(', ')}): ${phase}${rest}\n`
  })
  return `this host serves with version ${version}\n${lines.join('')}`
}

function refused(what: string, hint: string, cause?: unknown): MeshError {
  return new MeshError(`not upgraded: ${what}`, { code: 'not-upgraded', hint, cause })
}
