/** Owns what a check is and the words in which checks judge. Pure. */

import type { AgentFacts, CheckReport } from '#shared/model/admin.ts'

/** What a check answers. */
export type Judgement = Omit<CheckReport, 'name'>

/** One check. */
export interface Check {
  readonly name: string
  readonly judge: (facts: AgentFacts) => Judgement
}

const hour = 3_600_000
const day = 24 * hour

/** All is well. */
export function ok(finding: string): Judgement {
  return { verdict: 'ok', finding, cause: '', fix: '' }
}

/** It cannot be judged now. */
export function skipped(finding: string): Judgement {
  return { verdict: 'skipped', finding, cause: '', fix: '' }
}

/** Something is wrong. */
export function bad(
  verdict: 'warning' | 'failed',
  finding: string,
  cause: string,
  fix: string,
): Judgement {
  return { verdict, finding, cause, fix }
}

/** The first few of a list, in words. */
export function list(items: readonly string[]): string {
  const shown = items.slice(0, 5).join('; ')
  return items.length > 5 ? `${shown}; and ${items.length - 5} more` : shown
}

/** Most lines of a cause, and their length; whoever wants all asks for the thing itself. */
const most = { lines: 10, characters: 300 } as const

/** The first of a list, a line each; `all` is where the others are told. */
export function lines(items: readonly string[], all: string): string {
  const shown = items.slice(0, most.lines).map((item) => {
    const [line = ''] = item.split('\n')
    return line.length > most.characters ? `${line.slice(0, most.characters - 1)}…` : line
  })
  const left = items.length - shown.length
  return [...shown, ...(left > 0 ? [`and ${left} more: ${all}`] : [])].join('\n')
}

/** How long ago a time was, in words. */
export function ago(facts: AgentFacts, sinceMs: number): string {
  return duration(Math.max(0, facts.status.nowMs - sinceMs))
}

/** Milliseconds in words, in the largest unit that fits. */
export function duration(ms: number): string {
  if (ms >= 2 * day) return `${Math.floor(ms / day)} days`
  if (ms >= 2 * hour) return `${Math.floor(ms / hour)} hours`
  if (ms >= 120_000) return `${Math.floor(ms / 60_000)} minutes`
  return `${Math.floor(ms / 1000)} s`
}
