/** Owns what the workers of a host carry together, by the service it is for. Pure. */

import type { WorkerCounters } from './connected-worker.ts'
import type { CounterDump } from './messages.ts'

/** What all workers have told together. */
export interface Collected extends CounterDump {
  /** Requests and connections under way to each service of this host; null: not all of them tell. */
  readonly carried: ReadonlyMap<string, number> | null
}

/** The sum of what workers carry; one that does not tell may carry anything. */
export function carriedBy(answers: readonly (WorkerCounters | null)[]): Collected['carried'] {
  const sum = new Map<string, number>()
  for (const answer of answers) {
    if (answer?.carried === undefined) return null
    for (const { service, open } of answer.carried) sum.set(service, (sum.get(service) ?? 0) + open)
  }
  return answers.length === 0 ? null : sum
}
