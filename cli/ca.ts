/** Owns `meshctl ca`: the rotation of the mesh's root, begun, followed and given up. */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { RotationStatus } from '#shared/rpc/operator-messages.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { duration, pairs, table } from './output/table.ts'

/** What the verbs lean on. */
export interface CaParts {
  /** Makes a client anew: a rotation changes whom the old one trusts. */
  readonly connect: () => Promise<ControllerClient>
  readonly printer: Printer
  readonly clock: Clock
}

const lookMs = 1000
const mostNamed = 5
/** The controller changes its own certificate on the way. */
const awayMs = 15_000

/** Begins a rotation and follows it to its end; may be left at any time, it goes on by itself. */
export async function caRotate(
  parts: CaParts,
  settings: { readonly follow: boolean },
): Promise<number> {
  let status = await ask(parts, 'begin')
  if (settings.follow) {
    parts.printer.note('a rotation has begun; it goes on by itself if this command is left')
    status = await follow(parts, status)
  }
  parts.printer.result(status, () => rendered(status, parts.clock.now()))
  return exitCodes.ok
}

/** Tells how a rotation stands, and who it waits for. */
export async function caStatus(parts: CaParts): Promise<number> {
  const status = await ask(parts, 'status')
  parts.printer.result(status, () => rendered(status, parts.clock.now()))
  return exitCodes.ok
}

/** Gives a rotation up; what was issued under the next root is renewed under the old one first. */
export async function caAbort(parts: CaParts): Promise<number> {
  const status = await ask(parts, 'abort')
  parts.printer.result(status, () => rendered(status, parts.clock.now()))
  return exitCodes.ok
}

async function ask(
  { connect }: CaParts,
  action: 'begin' | 'abort' | 'status',
): Promise<RotationStatus> {
  const controller = await connect()
  try {
    return await controller.call('Operations', 'RotateRoot', { action })
  } finally {
    controller.close()
  }
}

async function follow(parts: CaParts, first: RotationStatus): Promise<RotationStatus> {
  const { clock, printer } = parts
  let status = first
  let said = ''
  let heardAt = clock.elapsed()
  // At the end the old root is gone from the bundle, but not yet from every host that trusts it.
  while (status.phase !== 'steady' || status.hostsReady < status.hostsLive) {
    const line = progress(status)
    if (line !== said) printer.note((said = line))
    await sleep(clock, lookMs)
    try {
      status = await ask(parts, 'status')
      heardAt = clock.elapsed()
    } catch (error) {
      const passing = error instanceof MeshError && error.retry
      if (!passing || clock.elapsed() - heardAt > awayMs) throw error
    }
  }
  return status
}

function progress({ phase, waitsFor, hostsReady, hostsLive }: RotationStatus): string {
  if (phase === 'steady') {
    return `steady: ${hostsLive - hostsReady} of ${hostsLive} live hosts trust the old root still`
  }
  if (waitsFor.length === 0) return `${phase}: nothing to wait for`
  const named = waitsFor.slice(0, mostNamed).map(({ host, why }) => `${host} (${why})`)
  const more = waitsFor.length > mostNamed ? ` and ${waitsFor.length - mostNamed} more` : ''
  return `${phase}: waits for ${named.join(', ')}${more}`
}

const words: Readonly<Record<string, string>> = {
  steady: 'no rotation is under way',
  distributing: 'every live host is told to trust the next root',
  reissuing: 'hosts renew their certificates under the next root',
  'going back': 'given up: hosts renew their certificates under the old root',
}

function rendered(status: RotationStatus, nowMs: number): string {
  const { phase, sinceMs, bundleEpoch, roots, waitsFor, hostsLive, hostsReady } = status
  const since = sinceMs === 0 ? '' : `, for ${duration(nowMs - sinceMs)}`
  return [
    pairs([
      ['phase', `${phase}: ${words[phase] ?? ''}${since}`],
      ['trust bundle', `${bundleEpoch}, in force on ${hostsReady} of ${hostsLive} live hosts`],
    ]),
    '\n',
    table(
      ['ROOT', 'STATE', 'CERTIFICATES', 'ENDS'],
      roots.map(({ name, state, held, endsMs }) => [
        name,
        state,
        String(held),
        new Date(endsMs).toISOString(),
      ]),
      '',
    ),
    waitsFor.length === 0
      ? ''
      : `\n${table(
          ['WAITS FOR', 'WHY'],
          waitsFor.map(({ host, why }) => [host, why]),
          '',
        )}`,
  ].join('')
}
