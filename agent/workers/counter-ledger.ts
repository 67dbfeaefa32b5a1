/**
 * Owns the sum of what workers have counted, living and dead, so that a counter never runs
 * backwards when a worker ends. Gauges count only while their worker lives.
 */

import { agentMetrics } from '#shared/metrics/names.ts'
import type { CounterDump, CounterSeries } from './messages.ts'

const gauges: ReadonlySet<string> = new Set(
  Object.values(agentMetrics)
    .filter((metric) => metric.kind === 'gauge')
    .map((metric) => metric.name),
)

/** Adds up dumps by worker. */
export class CounterLedger {
  readonly #living = new Map<object, CounterDump>()
  #dead: readonly CounterSeries[] = []

  /** A worker's newest dump; it replaces its last one. */
  update(worker: object, dump: CounterDump): void {
    this.#living.set(worker, dump)
  }

  /** A worker is gone: keep what it had counted. */
  retire(worker: object): void {
    const last = this.#living.get(worker)
    if (last === undefined) return
    this.#living.delete(worker)
    this.#dead = add([this.#dead, last.series.filter((series) => !gauges.has(series.metric))])
  }

  /** The sum over all workers. */
  total(): CounterDump {
    return { series: add([this.#dead, ...[...this.#living.values()].map((dump) => dump.series)]) }
  }
}

function add(lists: readonly (readonly CounterSeries[])[]): CounterSeries[] {
  const sums = new Map<string, CounterSeries>()
  for (const series of lists.flat()) {
    const key = `${series.metric} ${JSON.stringify(series.labels)}`
    const sum = sums.get(key)
    sums.set(key, sum === undefined ? series : plus(sum, series))
  }
  return [...sums.values()]
}

function plus(a: CounterSeries, b: CounterSeries): CounterSeries {
  return {
    metric: a.metric,
    labels: a.labels,
    value: a.value + b.value,
    ...(a.sum === undefined ? {} : { sum: a.sum + (b.sum ?? 0) }),
    ...(a.buckets === undefined
      ? {}
      : { buckets: a.buckets.map((count, i) => count + (b.buckets?.[i] ?? 0)) }),
  }
}
