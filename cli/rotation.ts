/** Owns `meshctl drain`, `undrain` and `maintenance`: taking services out of rotation and back. */

import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '#shared/lifecycle/clock.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean, duration } from './output/table.ts'

/** What the verbs lean on. */
export interface RotationParts {
  readonly agent: AdminSocket
  readonly clock: Pick<Clock, 'elapsed'>
  readonly printer: Printer
}

/** Settings of a drain. */
export interface DrainSettings {
  /** A service of the agent's host, or the host. */
  readonly target: string
  /** The host is meant, whatever services are called. */
  readonly kind?: 'host'
  readonly reason: string
  /** How long to wait until nothing reaches it any more; 0: not at all. */
  readonly waitMs: number
}

type Reached = Pick<ManifestReport, 'service' | 'open'>

const lookEveryMs = 100

/** Takes out of rotation; with waiting, succeeds when the services may be stopped. */
export async function drain(parts: RotationParts, settings: DrainSettings): Promise<number> {
  const { agent, printer, clock } = parts
  const { waitMs, ...wish } = settings
  const { services } = await agent.tell('rotation', { ...wish, withdrawn: true })
  const until = clock.elapsed() + waitMs
  let reached = await stillReached(agent, services)
  let said = ''
  while (reached.length > 0 && clock.elapsed() < until) {
    const waitsFor = `waiting for ${reached.map(openWords).join(', ')}`
    if (waitsFor !== said) printer.note((said = waitsFor))
    await delay(lookEveryMs)
    reached = await stillReached(agent, services)
  }
  const names = reached.map(({ service }) => service)
  const open = Object.fromEntries(reached.map(({ service, open }) => [service, open]))
  printer.result({ services, stillReached: names, open }, () => {
    if (names.length === 0) return `out of rotation, and nothing reaches it: ${words(services)}`
    return waitMs === 0
      ? `leaving: ${words(services)}; meshctl drain --wait tells when it may be stopped`
      : `after ${duration(waitMs)} still reached: ${reached.map(openWords).join(', ')}`
  })
  return waitMs > 0 && names.length > 0 ? exitCodes.notInOrder : exitCodes.ok
}

/** Puts back into rotation. */
export async function undrain(
  parts: RotationParts,
  settings: Pick<DrainSettings, 'target' | 'kind'>,
): Promise<number> {
  const wish = { ...settings, withdrawn: false, reason: '' }
  const { services } = await parts.agent.tell('rotation', wish)
  parts.printer.result({ services }, () => `in rotation: ${words(services)}`)
  return exitCodes.ok
}

/** Takes the agent's whole host out of rotation or puts it back; without a wish, tells. */
export async function maintenance(
  parts: RotationParts,
  settings: {
    readonly wish: 'on' | 'off' | 'status'
    readonly reason: string
    readonly waitMs: number
  },
): Promise<number> {
  const { host, maintenance: current, nowMs } = await parts.agent.ask('status')
  const { reason, waitMs } = settings
  const whole = { target: host, kind: 'host' } as const
  switch (settings.wish) {
    case 'on':
      return drain(parts, { ...whole, reason, waitMs })
    case 'off':
      return undrain(parts, whole)
    case 'status':
      parts.printer.result(current, () => {
        if (current === null) return `${clean(host)} is in rotation`
        const why = current.reason === '' ? '' : `: ${clean(current.reason)}`
        return `${clean(host)} is out of rotation for ${duration(nowMs - current.sinceMs)}${why}`
      })
      return exitCodes.ok
  }
}

async function stillReached(
  agent: AdminSocket,
  services: readonly string[],
): Promise<readonly Reached[]> {
  const manifests = await agent.ask('manifests')
  return manifests.filter(
    ({ service, rotation }) => rotation !== 'out' && services.includes(service),
  )
}

/** A service, and what it waits for as far as that is known. */
function openWords({ service, open }: Reached): string {
  switch (open) {
    case null:
      return clean(service)
    case 0:
      return `${clean(service)} (nothing open; its callers are told first)`
    default:
      return `${clean(service)} (${open} ${open === 1 ? 'request or connection' : 'requests or connections'} open)`
  }
}

function words(services: readonly string[]): string {
  return services.length === 0 ? 'no service' : clean(services.join(', '))
}
