/** Owns what the controller tells of its embedded store: its metrics, and what is left to do. */

import { controllerMetrics } from '#shared/metrics/names.ts'
import type { MetricSeries } from '#shared/metrics/registry.ts'
import type { EmbeddedStore } from './embedded-store.ts'

/** Its metrics. */
export function storeSeries({ gauges }: Pick<EmbeddedStore, 'gauges'>): readonly MetricSeries[] {
  const series = ({ name }: { readonly name: string }, value: number): MetricSeries => ({
    metric: name,
    labels: {},
    value,
  })
  return [
    series(controllerMetrics.storeRevision, gauges.revision),
    series(controllerMetrics.storeBytes, gauges.bytes),
    series(controllerMetrics.storeLeases, gauges.leases),
    series(controllerMetrics.storeWatches, gauges.watches),
    series(controllerMetrics.storeWritable, gauges.writable ? 1 : 0),
    series(controllerMetrics.storeFailedCommits, gauges.failedCommits),
  ]
}

/** What an operator has still to do after a migration; empty where there was none. */
export function movedWords(embedded: Pick<EmbeddedStore, 'movedTo'> | null): string {
  const to = embedded?.movedTo ?? ''
  return to === ''
    ? ''
    : `the operator: the store has moved to ${to}; name it as "store" in the configuration and start again`
}
