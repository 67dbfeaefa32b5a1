/** Owns what is told of generations: which there are, what each does, and what it still carries. Pure. */

import type { GenerationReport } from '#shared/model/admin-workers.ts'
import type { WorkerState } from './connected-worker.ts'

/** Newest first. */
export function generationsReport(
  workers: readonly WorkerState[],
  { retireMs }: { readonly retireMs: number },
): readonly GenerationReport[] {
  const numbers = [...new Set(workers.map(({ generation }) => generation))]
  return numbers
    .toSorted((a, b) => b - a)
    .map((generation) => {
      const members = workers
        .filter((worker) => worker.generation === generation)
        .toSorted((a, b) => a.index - b.index)
      const sinceMs = Math.max(...members.map(({ retiringSinceMs }) => retiringSinceMs))
      return {
        generation,
        phase: phaseOf(members),
        versions: [...new Set(members.map(({ version }) => version || 'unknown'))],
        protocols: [...new Set(members.map(({ protocol }) => protocol))],
        startedAtMs: Math.min(...members.map(({ startedAtMs }) => startedAtMs)),
        untilMs: sinceMs === 0 ? 0 : sinceMs + retireMs,
        workers: members.map(({ index, pid, open }) => ({ index, pid, open })),
      }
    })
}

/** A generation is as far as the last of its workers. */
function phaseOf(members: readonly WorkerState[]): GenerationReport['phase'] {
  const has = (phase: WorkerState['phase']): boolean => members.some((one) => one.phase === phase)
  if (has('live')) return 'live'
  return has('retiring') ? 'retiring' : 'standby'
}
