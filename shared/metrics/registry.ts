/**
 * Owns the text that Prometheus scrapes, and is the home of prom-client. Counts are kept elsewhere,
 * in plain arrays; here they are only put into prom-client's shape, whole, at each scrape. A series
 * that no definition knows (from a newer worker) is left out.
 */

import {
  type Metric,
  type MetricObjectWithValues,
  type MetricValueWithName,
  Registry,
} from 'prom-client'
import { durationBounds, type MetricDefinition } from './names.ts'

/** One series as it stands. */
export interface MetricSeries {
  /** A definition's name. */
  readonly metric: string
  readonly labels: Readonly<Record<string, string>>
  /** A counter's or gauge's value; a histogram's count. */
  readonly value: number
  /** A histogram's sum, in its unit. */
  readonly sum?: number
  /** A histogram's cumulative bucket counts, in the order of `durationBounds`. */
  readonly buckets?: readonly number[]
}

/** The media type of what `renderMetrics` answers. */
export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8'

type Values = MetricValueWithName<string>[]

/** Renders every definition with its series, in Prometheus' text format. */
export function renderMetrics(
  definitions: Iterable<MetricDefinition>,
  series: Iterable<MetricSeries>,
): Promise<string> {
  const byName = Map.groupBy(series, (one) => one.metric)
  const registry = new Registry()
  for (const definition of definitions) {
    const values = (byName.get(definition.name) ?? []).flatMap((one) => valuesOf(definition, one))
    registry.registerMetric(prepared(definition, values))
  }
  return registry.metrics()
}

/** What the registry asks of a metric is only a name and `get`; the rest of its class is not used. */
function prepared(definition: MetricDefinition, values: Values): Metric {
  const { name, help, kind } = definition
  const answer = { name, help, type: kind, values, aggregator: 'sum' }
  const get = async (): Promise<MetricObjectWithValues<MetricValueWithName<string>>> =>
    answer as unknown as MetricObjectWithValues<MetricValueWithName<string>>
  return { name, get } as unknown as Metric
}

function valuesOf(definition: MetricDefinition, series: MetricSeries): Values {
  const labels: Record<string, string> = {}
  for (const label of definition.labels) labels[label] = series.labels[label] ?? ''
  if (definition.kind !== 'histogram') return [{ labels, value: series.value }]
  const { buckets, sum = 0, value } = series
  if (buckets?.length !== durationBounds.length) return []
  const part = (suffix: string, own: Record<string, string>, count: number): Values[number] => ({
    metricName: `${definition.name}_${suffix}`,
    labels: { ...own, ...labels },
    value: count,
  })
  return [
    ...durationBounds.map((bound, i) => part('bucket', { le: String(bound) }, buckets[i] ?? 0)),
    part('bucket', { le: '+Inf' }, value),
    part('sum', {}, sum),
    part('count', {}, value),
  ]
}
