/** Owns `meshctl check`: everything that is wrong on this host, each with cause and fix. */

import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { CheckReport } from '#shared/model/admin.ts'
import { counted } from '#shared/model/counted.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean } from './output/table.ts'

const marks = { ok: 'ok  ', warning: 'WARN', failed: 'FAIL', skipped: '-   ' } as const

const lookEveryMs = 250

/**
 * Prints the checks; succeeds when none failed. With nobody to ask, the question itself fails. With
 * time to wait it asks again until all is in order or that is over, and prints what it saw last.
 */
export async function check(
  parts: {
    readonly agent: AdminSocket
    readonly printer: Printer
    readonly clock: Pick<Clock, 'elapsed'>
  },
  settings: {
    /** 0: ask once. */
    readonly waitMs: number
    /** Directory of the documents here. @default docs */
    readonly documents?: string
  },
): Promise<number> {
  const { agent, printer, clock } = parts
  const { documents = 'docs' } = settings
  const end = clock.elapsed() + settings.waitMs
  let { answered, reports } = await allReports(agent)
  while (hasFailed(reports) && clock.elapsed() < end) {
    await delay(lookEveryMs)
    ;({ answered, reports } = await allReports(agent))
  }
  printer.result(reports, () => render(reports, documents))
  if (!answered) return exitCodes.unreachable
  return hasFailed(reports) ? exitCodes.notInOrder : exitCodes.ok
}

function hasFailed(reports: readonly CheckReport[]): boolean {
  return reports.some(({ verdict }) => verdict === 'failed')
}

async function allReports(
  agent: AdminSocket,
): Promise<{ readonly answered: boolean; readonly reports: readonly CheckReport[] }> {
  const name = 'agent-socket'
  try {
    const reports = await agent.ask('checks')
    const finding = `the agent answers on ${agent.path}`
    const own: CheckReport = { name, verdict: 'ok', finding, cause: '', fix: '' }
    return { answered: true, reports: [own, ...reports] }
  } catch (error) {
    if (!(error instanceof MeshError)) throw error
    const { message, hint = '' } = error
    const finding = `no agent answers on ${agent.path}`
    const cause = message.replace(`${finding}: `, '')
    const own: CheckReport = { name, verdict: 'failed', finding, cause, fix: hint }
    return { answered: false, reports: [own] }
  }
}

function render(reports: readonly CheckReport[], documents: string): string {
  const width = Math.max(...reports.map(({ name }) => name.length))
  const indent = ' '.repeat(width + 8)
  const lines = reports.map(({ name, verdict, finding, cause, fix }) => {
    const line = `${marks[verdict]}  ${clean(name).padEnd(width)}  ${clean(finding)}\n`
    return verdict === 'ok' || verdict === 'skipped'
      ? line
      : [
          line,
          `${indent}cause: ${cause.split('\n').map(clean).join(`\n${indent}       `)}\n`,
          `${indent}fix:   ${clean(fix)}\n`,
          `${indent}more:  ${documents}/checks.md#${clean(name)}\n`,
        ].join('')
  })
  const count = (verdict: CheckReport['verdict']): number =>
    reports.filter((report) => report.verdict === verdict).length
  const warnings = counted(count('warning'), 'warning')
  const summary = `${count('ok')} ok, ${warnings}, ${count('failed')} failed`
  return `${lines.join('')}\n${summary}\n`
}
