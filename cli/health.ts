/**
 * Owns `meshctl health`: brings results of push checks to the agent. A command is run here, as the
 * user who asks; the agent itself runs none.
 */

import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { HealthResult } from '#shared/model/admin-wishes.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean } from './output/table.ts'

/** What the verbs lean on. */
export interface HealthParts {
  readonly agent: AdminSocket
  readonly printer: Printer
}

/** What running a command leans on. */
export interface HealthRunParts extends HealthParts {
  /** Ends a process group; one that has ended already is no fault. */
  readonly killGroup: (pid: number) => void
  /** Has `run` called before a signal ends this process; what it answers takes that back. */
  readonly beforeSignal: (run: () => void) => () => void
}

/** Settings of a run. */
export interface HealthRunSettings {
  readonly service: string
  readonly check?: string
  /** The program and its arguments. */
  readonly command: readonly string[]
  /** How long it may take; then it is killed and the check fails. */
  readonly timeoutMs: number
}

/** Exit statuses as check programs of monitoring systems use them: 0 passes, 1 warns, others fail. */
const outcomes = ['pass', 'warn'] as const
const longestDetail = 256

/** Brings one result; succeeds when the agent has taken it. */
export async function healthTell(parts: HealthParts, result: HealthResult): Promise<number> {
  const taken = await parts.agent.tell('health', result)
  const { service, outcome, detail } = result
  parts.printer.result(
    taken,
    () => `${clean(service)}: ${outcome}${detail === '' ? '' : `: ${clean(detail)}`}`,
  )
  return exitCodes.ok
}

/** Runs a command and brings what it finds; succeeds when the agent has taken that. */
export async function healthRun(
  parts: HealthRunParts,
  settings: HealthRunSettings,
): Promise<number> {
  const { service, check } = settings
  const found = await run(parts, settings)
  return healthTell(parts, { service, ...(check === undefined ? {} : { check }), ...found })
}

function run(
  { killGroup, beforeSignal }: HealthRunParts,
  { command: [program = '', ...words], timeoutMs }: HealthRunSettings,
): Promise<Pick<HealthResult, 'outcome' | 'detail'>> {
  return new Promise((resolve) => {
    // A group of its own, so that whatever it starts ends with it.
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    const end = (): void => {
      if (child.pid !== undefined) killGroup(child.pid)
    }
    // It is out of reach of the terminal's signals, and must not outlive who waits for it.
    const takeBack = beforeSignal(end)
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      end()
    }, timeoutMs)
    const said = { text: '' }
    collect(child.stdout, said)
    collect(child.stderr, said)
    child.on('error', (error) => {
      takeBack()
      clearTimeout(timer)
      resolve({ outcome: 'fail', detail: messageOf(error) })
    })
    child.on('exit', (code, signal) => {
      takeBack()
      clearTimeout(timer)
      // Whatever it left running must not keep its output open.
      end()
      const how = isLate ? `no result within ${timeoutMs} ms` : (signal ?? `exit status ${code}`)
      const line = said.text.trim().split('\n').at(-1) ?? ''
      const detail = (isLate || line === '' ? how : line).slice(0, longestDetail)
      resolve({ outcome: isLate ? 'fail' : (outcomes[code ?? 2] ?? 'fail'), detail })
    })
  })
}

/** Keeps the end of what is said. */
function collect(stream: Readable, said: { text: string }): void {
  stream.setEncoding('utf8')
  stream.on('data', (text: string) => {
    said.text = (said.text + text).slice(-4 * longestDetail)
  })
}
