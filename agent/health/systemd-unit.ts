/**
 * Owns the question how a unit of systemd fares. It asks systemctl, a few at a time, and changes
 * nothing; where systemd does not run, it says so.
 */

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { CheckResult } from './check-rules.ts'

/** Settings. */
export interface SystemdUnitSettings {
  /** @default 'systemctl' */
  readonly program?: string
  /** What is there while systemd runs. @default '/run/systemd/system' */
  readonly mark?: string
}

/** Programs under way at the same time; further questions wait for their turn. */
const atOnce = 4
const longestAnswer = 4096

let running = 0
const waiting: (() => void)[] = []

/** Asks once. Never rejects. */
export async function systemdUnit(
  unit: string,
  signal: AbortSignal,
  { program = 'systemctl', mark = '/run/systemd/system' }: SystemdUnitSettings = {},
): Promise<CheckResult> {
  if (!existsSync(mark)) return { outcome: 'fail', detail: 'systemd does not run on this host' }
  // Whoever is done hands its place on, so that no more than these ever run.
  if (running >= atOnce) await new Promise<void>((resolve) => waiting.push(resolve))
  else running += 1
  try {
    if (signal.aborted) return { outcome: 'fail', detail: 'systemctl: no answer in time' }
    return await ask(program, unit, signal)
  } finally {
    const next = waiting.shift()
    if (next === undefined) running -= 1
    else next()
  }
}

function ask(program: string, unit: string, signal: AbortSignal): Promise<CheckResult> {
  const words = ['show', '--property=LoadState,ActiveState,SubState', '--', unit]
  const options = { signal, maxBuffer: longestAnswer, killSignal: 'SIGKILL' } as const
  return new Promise((resolve) => {
    execFile(program, words, options, (error, answer) => {
      if (error === null) resolve(judge(answer))
      else {
        const problem = signal.aborted ? 'no answer in time' : (error.message.split('\n')[0] ?? '')
        resolve({ outcome: 'fail', detail: `systemctl: ${problem}` })
      }
    })
  })
}

/** Judges what systemctl shows, `Name=value` a line. */
function judge(answer: string): CheckResult {
  const shown = new Map(
    answer.split('\n').map((line) => {
      const [name = '', ...value] = line.split('=')
      return [name, value.join('=')] as const
    }),
  )
  const load = shown.get('LoadState') ?? ''
  const active = shown.get('ActiveState') ?? ''
  if (load !== 'loaded') return { outcome: 'fail', detail: `unit ${load || 'unknown'}` }
  const passes = active === 'active' || active === 'reloading'
  const detail = `unit ${active} (${shown.get('SubState') ?? ''})`
  return { outcome: passes ? 'pass' : 'fail', detail }
}
