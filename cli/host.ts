/**
 * Owns `meshctl host`: which hosts have joined, who is banned, and what each may speak for. An order
 * is followed until every live host acts on it, or time is up, so that nobody has to guess.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { BanRequest, ListedHost } from '#shared/rpc/operator-messages.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { table } from './output/table.ts'

/** What the verbs lean on. */
export interface HostParts {
  readonly controller: ControllerClient
  readonly printer: Printer
}

/** Whom an order is about: a host or the serial of a certificate. */
export type Whom =
  | { readonly kind: 'host'; readonly host: string }
  | { readonly kind: 'serial'; readonly serial: string }

/** How long an order is followed. */
const followMs = 15_000
const lookMs = 250

/** Prints every enrolled host. */
export async function hostList({ controller, printer }: HostParts): Promise<number> {
  const list = await controller.call('Operations', 'ListHosts', {})
  const { hosts, serials } = list
  printer.result(list, () =>
    [
      table(
        ['HOST', 'STATE', 'SERVICES', 'ENROLLED'],
        hosts.map((host) => [host.host, stateOf(host), host.services.join(','), host.enrolledAt]),
        "no host has joined yet; to let one in: meshctl token create HOST --service '*'",
      ),
      serials.length === 0
        ? ''
        : `\n${table(
            ['BANNED SERIAL', 'SINCE', 'REASON'],
            serials.map(({ serial, at, reason }) => [serial, at, reason]),
            '',
          )}`,
    ].join(''),
  )
  return exitCodes.ok
}

/** Bans a host or a certificate, and waits until every live host acts on it. */
export function hostBan(
  parts: HostParts & { readonly clock: Clock },
  settings: { readonly whom: Whom; readonly reason: string },
): Promise<number> {
  return order(parts, 'Ban', settings.whom, settings.reason)
}

/** Lifts a ban, and waits until every live host acts on it. */
export function hostUnban(
  parts: HostParts & { readonly clock: Clock },
  settings: { readonly whom: Whom },
): Promise<number> {
  return order(parts, 'Unban', settings.whom, '')
}

/** Prints what a host may speak for; with globs, sets that first. */
export async function hostServices(
  { controller, printer }: HostParts,
  settings: { readonly host: string; readonly services: readonly string[] },
): Promise<number> {
  const { host, services } = settings
  if (services.length > 0) await controller.call('Operations', 'SetHostServices', settings)
  const { hosts } = await controller.call('Operations', 'ListHosts', {})
  const found = hosts.find((one) => one.host === host)
  if (found === undefined) {
    printer.note(`host ${host} has not joined this mesh`)
    return exitCodes.notInOrder
  }
  printer.result(found.services, () => found.services.map((glob) => `${glob}\n`).join(''))
  if (services.length > 0) {
    printer.note('certificates it holds beyond that are not renewed, and end by themselves')
  }
  return exitCodes.ok
}

async function order(
  parts: HostParts & { readonly clock: Clock },
  method: 'Ban' | 'Unban',
  whom: Whom,
  reason: string,
): Promise<number> {
  const { controller, printer, clock } = parts
  const request: BanRequest = { host: '', serial: '', reason, ...named(whom) }
  const { changed, bansEpoch } = await controller.call('Operations', method, request)
  const name = whom.kind === 'host' ? `host ${whom.host}` : `certificate ${whom.serial}`
  const state = method === 'Ban' ? 'banned' : 'not banned'
  const until = clock.elapsed() + followMs
  let live: readonly ListedHost[] = []
  let late: readonly string[] = []
  for (;;) {
    const { hosts } = await controller.call('Operations', 'ListHosts', {})
    live = hosts.filter((host) => host.live && host.ban === null)
    late = live.filter((host) => host.bansEpoch < bansEpoch).map(({ host }) => host)
    if (late.length === 0 || clock.elapsed() > until) break
    await sleep(clock, lookMs)
  }
  const told = live.length - late.length
  printer.result({ changed, bansEpoch, told, late }, () => {
    const word = changed ? 'now' : 'already'
    return `${name} is ${word} ${state}; ${told} of ${live.length} live hosts act on it\n`
  })
  if (late.length === 0) return exitCodes.ok
  printer.note(`these do not yet, and will once they reach the store: ${late.join(', ')}`)
  return exitCodes.notInOrder
}

function named(whom: Whom): { readonly host: string } | { readonly serial: string } {
  return whom.kind === 'host' ? { host: whom.host } : { serial: whom.serial }
}

function stateOf({ ban, live }: ListedHost): string {
  if (ban !== null) return ban.reason === '' ? 'banned' : `banned: ${ban.reason}`
  return live ? 'live' : 'away'
}
