/** Owns `meshctl capture` and `meshctl bypass`: what of this host goes through the mesh, and why not. */

import type {
  BypassReport,
  CaptureExplanation,
  CaptureReport,
} from '#shared/model/admin-capture.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean, duration, pairs, table } from './output/table.ts'

/** What the verbs lean on. */
export interface CaptureParts {
  readonly agent: AdminSocket
  readonly printer: Printer
}

/** Prints whether connections are captured, whose, and what bypasses the mesh; fails while not. */
export async function captureStatus({ agent, printer }: CaptureParts): Promise<number> {
  const { capture, nowMs } = await agent.ask('status')
  printer.result(capture, () => render(capture, nowMs))
  return capture.kind === 'on' ? exitCodes.ok : exitCodes.notInOrder
}

/** Switches capture on this host. */
export async function captureSwitch(
  { agent, printer }: CaptureParts,
  wish: { readonly wish: 'on' | 'off'; readonly reason: string; readonly by: string },
): Promise<number> {
  const status = await agent.tell('capture', wish)
  printer.result(status, () =>
    wish.wish === 'off'
      ? 'off: nothing is captured and nothing is locked on this host; open connections live on'
      : status.kind === 'on'
        ? 'on'
        : 'on in a moment; meshctl capture status tells',
  )
  return exitCodes.ok
}

/** Tells what becomes of a connection; fails where it is refused. */
export async function captureExplain(
  { agent, printer }: CaptureParts,
  question: { readonly to: string; readonly user?: string; readonly unit?: string },
): Promise<number> {
  const answer = await agent.explainCapture(new URLSearchParams({ ...question }))
  printer.result(answer, () => explained(answer))
  switch (answer.kind) {
    case 'captured':
    case 'direct':
      return exitCodes.ok
    case 'refused':
      return exitCodes.notInOrder
    case 'bad-question':
      return exitCodes.usage
  }
}

/** Takes one service out of capture for a time; 0 ends that. */
export async function bypass(
  { agent, printer }: CaptureParts,
  wish: {
    readonly service: string
    readonly forMs: number
    readonly reason: string
    readonly by: string
  },
): Promise<number> {
  await agent.tell('bypass', wish)
  const { capture, nowMs } = await agent.ask('status')
  printer.result(capture.bypasses, () => bypasses(capture.bypasses, nowMs))
  return exitCodes.ok
}

function render(facts: CaptureReport, nowMs: number): string {
  const { kind, reason, destinations, callers, lifted, problems } = facts
  const since = lifted === null ? '' : `, for ${duration(nowMs - lifted.sinceMs)}`
  const known = callers.map(({ service, user, unit, inbound, problem }) => [
    service,
    unit ?? (user === null ? '-' : String(user)),
    inbound === 'none' ? '-' : inbound,
    problem,
  ])
  return [
    pairs([
      ['capture', kind === 'on' ? 'on' : `${kind}${since}: ${reason}`],
      ['addresses', `${destinations} lead into the mesh`],
      ['egress', facts.egress],
      ...problems.map((one): [string, string] => ['not captured', one]),
      ...(facts.limit === '' ? [] : [['limited', facts.limit] as const]),
    ]),
    table(
      ['SERVICE', 'KNOWN BY', 'INBOUND', 'PROBLEM'],
      known,
      'no service here is known as a caller',
    ),
    bypasses(facts.bypasses, nowMs),
  ].join('\n')
}

function bypasses(all: readonly BypassReport[], nowMs: number): string {
  return table(
    ['BYPASSES', 'FOR ANOTHER', 'BY', 'REASON'],
    all.map(({ service, untilMs, by, reason }) => [
      service,
      duration(Math.max(0, untilMs - nowMs)),
      by,
      reason,
    ]),
    'no service bypasses the mesh',
  )
}

function explained(answer: CaptureExplanation): string {
  switch (answer.kind) {
    case 'captured': {
      const { service, caller, port } = answer
      const whose = caller === null ? 'the identity of this host' : `the identity of ${caller}`
      return `captured: goes to ${clean(service)} through the mesh, with ${clean(whose)} (led to port ${port})`
    }
    case 'direct':
      return `direct, without the mesh: ${clean(answer.why)}`
    case 'refused':
      return `refused: ${clean(answer.why)}`
    case 'bad-question':
      return clean(answer.problem)
  }
}
