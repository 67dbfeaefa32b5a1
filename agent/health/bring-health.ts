/** Owns the command by which the result of a push check is brought to the agent. */

import type { CheckOutcome } from '#shared/model/health-check.ts'
import type { HealthResult } from '#shared/model/admin-wishes.ts'
import { parseServiceName } from '#shared/model/names.ts'
import type { HealthBoard } from './health-board.ts'

const outcomes: ReadonlySet<unknown> = new Set<CheckOutcome>(['pass', 'warn', 'fail'])
const longestDetail = 256

/** What became of the result. */
export type BringAnswer =
  | { readonly kind: 'done'; readonly value: { readonly service: string; readonly check: string } }
  | {
      readonly kind: 'refused'
      readonly code: string
      readonly problem: string
      readonly hint: string
    }

/** Takes a `HealthResult` as it was posted. */
export function bringHealth(board: Pick<HealthBoard, 'bring'>, input: unknown): BringAnswer {
  const refused = (code: string, problem: string, hint = ''): BringAnswer => ({
    kind: 'refused',
    code,
    problem,
    hint,
  })
  if (!isResult(input)) {
    return refused(
      'bad-input',
      'expected {"service", "check"?, "outcome": "pass" | "warn" | "fail", "detail"}',
    )
  }
  const service = parseServiceName(input.service)
  if (!service.ok) return refused('bad-input', service.problem)
  const result = { outcome: input.outcome, detail: input.detail.slice(0, longestDetail) }
  const brought = board.bring(service.value, input.check ?? null, result)
  return brought.kind === 'taken'
    ? { kind: 'done', value: { service: service.value, check: brought.check } }
    : refused('not-taken', brought.problem, brought.hint)
}

function isResult(input: unknown): input is HealthResult {
  if (typeof input !== 'object' || input === null) return false
  const { service, check, outcome, detail } = input as Readonly<Record<string, unknown>>
  return (
    typeof service === 'string' &&
    (check === undefined || typeof check === 'string') &&
    outcomes.has(outcome) &&
    typeof detail === 'string'
  )
}
