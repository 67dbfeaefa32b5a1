/** Owns `meshctl why`: whether a call works, and if not, what is to blame. */

import type { WhyAnswer, WhyQuestion, WhyStep } from '#shared/model/why.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean } from './output/table.ts'

const marks = { ok: 'ok  ', warning: 'WARN', failed: 'FAIL', skipped: '-   ' } as const

/** Has the agent walk the path of a call; succeeds when all of it works. */
export async function why(
  parts: { readonly agent: AdminSocket; readonly printer: Printer },
  question: WhyQuestion,
): Promise<number> {
  const answer = await parts.agent.tell('why', question)
  parts.printer.result(answer, () => render(answer))
  return answer.verdict === 'works' ? exitCodes.ok : exitCodes.notInOrder
}

function render({ service, caller, verdict, steps }: WhyAnswer): string {
  const width = Math.max(...steps.map(({ name }) => name.length))
  const lines = steps.map((step) => line(step, width))
  const from = caller === '' ? 'this host' : caller
  return `${lines.join('')}\n${clean(from)} -> ${clean(service)}: ${sentence(verdict, steps)}\n`
}

function line({ name, verdict, finding, cause, fix }: WhyStep, width: number): string {
  const indent = ' '.repeat(width + 8)
  const first = `${marks[verdict]}  ${clean(name).padEnd(width)}  ${clean(finding)}\n`
  return [
    first,
    ...(cause === '' ? [] : [`${indent}cause: ${clean(cause)}\n`]),
    ...(fix === '' ? [] : [`${indent}fix:   ${clean(fix)}\n`]),
  ].join('')
}

function sentence(verdict: WhyAnswer['verdict'], steps: readonly WhyStep[]): string {
  const culprit = steps.find((step) => step.verdict === 'failed')
  switch (verdict) {
    case 'works':
      return 'works'
    case 'partly':
      return 'works, but not with every instance'
    case 'broken':
      return `does not work, because of: ${clean(culprit?.name ?? '')}: ${clean(culprit?.finding ?? '')}`
  }
}
