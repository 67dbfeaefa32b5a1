/**
 * Owns what units that `unit-link.ts` has linked have done at their turns: `meshctl unit wait` before
 * they start, `enter` once they run, `leave` before they stop. It waits for an agent that is late, and
 * never keeps a unit from stopping.
 */

import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import type { ServiceName } from '#shared/model/names.ts'
import { rotationUnit } from '#shared/model/unit-drop-in.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import type { ServiceUnits } from './client/service-units.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean } from './output/table.ts'
import { drain } from './rotation.ts'

/** Collaborators. */
export interface UnitTurnParts {
  readonly agent: AdminSocket
  readonly units: Pick<ServiceUnits, 'isActive' | 'stoppedWith'>
  readonly printer: Printer
  readonly clock: Pick<Clock, 'elapsed'>
}

/** Settings of a turn. */
export interface UnitTurnSettings {
  readonly service: ServiceName
  /** How long it may take. */
  readonly waitMs: number
}

/** What a unit that stops gives as the reason: who starts puts back what is out for this one alone. */
const reason = 'its unit stops'
const lookEveryMs = 500

/** Succeeds once everything that the service requires can be called by it. */
export async function unitWait(parts: UnitTurnParts, settings: UnitTurnSettings): Promise<number> {
  const { printer } = parts
  const missing = await whatIsMissing(parts, settings, async () => {
    const manifest = await manifestOf(parts, settings)
    if (manifest === null) return [`the agent has no manifest of ${settings.service}`]
    const found = await Promise.all(manifest.requires.map((name) => lackOf(parts, settings, name)))
    return found.filter((line) => line !== '')
  })
  const { service } = settings
  printer.result({ service, missing }, () =>
    missing.length === 0
      ? `everything that ${service} requires can be called`
      : `${service} has waited long enough: ${clean(missing.join('; '))}`,
  )
  return missing.length === 0 ? exitCodes.ok : exitCodes.notInOrder
}

/** Puts the service back into rotation, where it was its unit that took it out. */
export async function unitEnter(parts: UnitTurnParts, settings: UnitTurnSettings): Promise<number> {
  const { service } = settings
  const missing = await whatIsMissing(parts, settings, async () => {
    const manifest = await manifestOf(parts, settings)
    if (manifest === null) return [`the agent has no manifest of ${service}`]
    // A caller that serves nothing is in no rotation.
    if (manifest.health !== 'none') await putBack(parts, service)
    return []
  })
  parts.printer.result({ service, missing }, () =>
    missing.length === 0
      ? `${service} may be called`
      : `${service} is not put into rotation: ${clean(missing.join('; '))}`,
  )
  return missing.length === 0 ? exitCodes.ok : exitCodes.notInOrder
}

/** Takes the service out of rotation and waits until nothing reaches it, where its unit still runs. */
export async function unitLeave(parts: UnitTurnParts, settings: UnitTurnSettings): Promise<number> {
  const { units, printer, agent } = parts
  const { service, waitMs } = settings
  const stopping = units.stoppedWith(rotationUnit(service))
  if (stopping !== null && !stopping.some((unit) => units.isActive(unit))) {
    // It has fallen over, or is no longer linked: nobody is served by waiting.
    printer.note(`${service} does not run: nothing to drain`)
    return exitCodes.ok
  }
  try {
    const manifest = (await agent.ask('manifests')).find((one) => one.service === service)
    if (manifest === undefined || manifest.health === 'none') return exitCodes.ok
    return await drain(parts, { target: service, reason, waitMs })
  } catch (error) {
    if (!(error instanceof MeshError)) throw error
    printer.note(`${service} is not drained: ${clean(error.message)}`)
    return exitCodes.unreachable
  }
}

/** Asks until nothing is missing or time is over; says what it waits for whenever that changes. */
async function whatIsMissing(
  { clock, printer }: UnitTurnParts,
  { waitMs }: UnitTurnSettings,
  ask: () => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const end = clock.elapsed() + waitMs
  let said = ''
  for (;;) {
    const missing = await ask().catch((error: unknown) => {
      if (!(error instanceof MeshError)) throw error
      return [error.message]
    })
    if (missing.length === 0 || clock.elapsed() >= end) return missing
    const line = `waiting: ${clean(missing.join('; '))}`
    if (line !== said) printer.note((said = line))
    await delay(lookEveryMs)
  }
}

async function manifestOf(
  { agent }: UnitTurnParts,
  { service }: UnitTurnSettings,
): Promise<ManifestReport | null> {
  return (await agent.ask('manifests')).find((one) => one.service === service) ?? null
}

/** Why the service cannot call one that it requires; empty where it can. */
async function lackOf(
  { agent }: UnitTurnParts,
  { service: caller }: UnitTurnSettings,
  service: string,
): Promise<string> {
  const { verdict, steps } = await agent.tell('why', { service, caller })
  if (verdict !== 'broken') return ''
  const { finding, cause } = steps.find((step) => step.verdict === 'failed') ?? {
    finding: 'it cannot be called',
    cause: '',
  }
  return `${service}: ${finding}${cause === '' ? '' : ` (${cause})`}`
}

/** Puts the service back where its unit took it out. @throws MeshError where nobody can be asked */
export async function putBack(
  {
    agent,
    printer,
  }: Pick<UnitTurnParts, 'printer'> & { readonly agent: Pick<AdminSocket, 'tell'> },
  service: ServiceName,
): Promise<void> {
  try {
    await agent.tell('rotation', { target: service, withdrawn: false, reason })
  } catch (error) {
    // The whole host is out of rotation: whoever took it out puts it back.
    if (!(error instanceof MeshError) || error.code !== 'agent-refused') throw error
    printer.note(clean(error.message))
  }
}
