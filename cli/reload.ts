/** Owns `meshctl reload`: has the agent read its config again, and tells what came of it. */

import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'

/** Reloads. @throws MeshError `agent-refused` with every fault of the file; then nothing has changed */
export async function reload(parts: {
  readonly agent: AdminSocket
  readonly printer: Printer
}): Promise<number> {
  const report = await parts.agent.tell('reload', {})
  parts.printer.result(report, () =>
    [
      report.applied.length === 0
        ? 'nothing that counts at once has changed\n'
        : `in force now: ${report.applied.join(', ')}\n`,
      ...report.waiting.map(({ key, needs }) => `waits: ${key} (${needs})\n`),
    ].join(''),
  )
  return exitCodes.ok
}
