/** Owns `meshctl generations`: which generations of workers there are, and what they still carry. */

import type { GenerationReport } from '#shared/model/admin-workers.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { duration, table } from './output/table.ts'

/** Prints them, newest first; succeeds when one of them takes connections. */
export async function generations(parts: {
  readonly agent: AdminSocket
  readonly printer: Printer
  readonly clock: Clock
}): Promise<number> {
  const report = await parts.agent.ask('generations')
  parts.printer.result(report, () => render(report, parts.clock.now()))
  return report.some(({ phase }) => phase === 'live') ? exitCodes.ok : exitCodes.notInOrder
}

function render(report: readonly GenerationReport[], nowMs: number): string {
  return table(
    ['GENERATION', 'PHASE', 'VERSION', 'PROTOCOL', 'WORKERS', 'OPEN', 'UP', 'ENDS'],
    report.map(({ generation, phase, versions, protocols, workers, startedAtMs, untilMs }) => [
      String(generation),
      phase,
      versions.join(', '),
      protocols.join(', '),
      workers.map(({ index, pid }) => `${generation}-${index} (pid ${pid})`).join(', '),
      String(workers.reduce((sum, { open }) => sum + open, 0)),
      startedAtMs === 0 ? '?' : duration(nowMs - startedAtMs),
      phase === 'retiring' ? `when empty, or in ${duration(Math.max(0, untilMs - nowMs))}` : '',
    ]),
    'no worker is connected: none runs, or none reaches the agent; meshctl check tells more',
  )
}
