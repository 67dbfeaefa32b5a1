/**
 * Owns the counts of the data path: plain numbers in plain arrays, found by two map lookups, so that
 * a record costs well under a microsecond. Cumulative since the worker started; the control process
 * collects and renders them. Bounded: past the limit pairs are counted together.
 */

import { agentMetrics, durationBounds } from '#shared/metrics/names.ts'
import type { Direction, Outcome } from '#shared/model/outcome.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { CounterDump, CounterSeries } from '#agent/workers/messages.ts'

/** Label value of what could not be known, and of what is beyond the limit of series. */
const unknown = 'unknown'
const other = 'other'

class Pair {
  readonly source: string
  readonly destination: string
  /** Requests by `<status> <reason>`; statuses and reasons are closed sets, so this is bounded. */
  readonly requests = new Map<number, Map<Reason, number>>()
  readonly connections = new Map<Reason, number>()
  /** How many durations fell between a bound and the one below; longer ones are in no bucket. */
  readonly buckets = new Float64Array(durationBounds.length)
  durations = 0
  seconds = 0
  bytesIn = 0
  bytesOut = 0

  constructor(source: string, destination: string) {
    this.source = source
    this.destination = destination
  }
}

/** Settings of the counters. */
export interface TrafficCounterSettings {
  /** Most (source, destination) pairs a direction. @default 2000 */
  readonly maxPairs: number
}

/** Counts outcomes and open things. */
export class TrafficCounters {
  readonly #settings: TrafficCounterSettings
  readonly #pairs = {
    outbound: new Map<string, Map<string, Pair>>(),
    inbound: new Map<string, Map<string, Pair>>(),
  }
  readonly #pairCount = { outbound: 0, inbound: 0 }
  /** The pair counted last, which is mostly the next one's too. */
  readonly #last: Record<Direction, Pair | null> = { outbound: null, inbound: null }
  readonly #gauges = new Map<
    string,
    { readonly series: CounterSeries; readonly read: () => number }
  >()
  readonly #tallies = new Map<string, { readonly series: CounterSeries; count: number }>()

  constructor(settings: TrafficCounterSettings = { maxPairs: 2000 }) {
    this.#settings = settings
  }

  /** Counts one finished request or connection. */
  count(outcome: Outcome): void {
    const pair = this.#pair(
      outcome.direction,
      outcome.source ?? unknown,
      outcome.destination ?? unknown,
    )
    pair.bytesIn += outcome.bytesFromCaller
    pair.bytesOut += outcome.bytesToCaller
    if (outcome.protocol === 'tcp') {
      pair.connections.set(outcome.reason, (pair.connections.get(outcome.reason) ?? 0) + 1)
      return
    }
    let byReason = pair.requests.get(outcome.status)
    if (byReason === undefined) pair.requests.set(outcome.status, (byReason = new Map()))
    byReason.set(outcome.reason, (byReason.get(outcome.reason) ?? 0) + 1)
    const seconds = outcome.durationMs / 1000
    pair.durations++
    pair.seconds += seconds
    const { buckets } = pair
    let bucket = 0
    while (bucket < buckets.length && seconds > (durationBounds[bucket] as number)) bucket++
    if (bucket < buckets.length) buckets[bucket] = (buckets[bucket] as number) + 1
  }

  /** Counts an event of a metric that is not about one outcome, such as a handshake. */
  tally(metric: string, labels: Readonly<Record<string, string>>): void {
    const key = `${metric} ${JSON.stringify(labels)}`
    const found = this.#tallies.get(key)
    if (found !== undefined) found.count++
    else if (this.#tallies.size < this.#settings.maxPairs) {
      this.#tallies.set(key, { series: { metric, labels, value: 0 }, count: 1 })
    }
  }

  /** Registers a gauge that is read when somebody collects. */
  gauge(metric: string, labels: Readonly<Record<string, string>>, read: () => number): void {
    this.#gauges.set(`${metric} ${JSON.stringify(labels)}`, {
      series: { metric, labels, value: 0 },
      read,
    })
  }

  /** Every series as it stands. */
  dump(): CounterDump {
    const series: CounterSeries[] = []
    for (const direction of ['outbound', 'inbound'] as const) {
      for (const bySource of this.#pairs[direction].values()) {
        for (const pair of bySource.values()) this.#dumpPair(series, direction, pair)
      }
    }
    for (const { series: one, count } of this.#tallies.values())
      series.push({ ...one, value: count })
    for (const { series: one, read } of this.#gauges.values())
      series.push({ ...one, value: read() })
    return { series }
  }

  #pair(direction: Direction, source: string, destination: string): Pair {
    const last = this.#last[direction]
    if (last?.source === source && last.destination === destination) return last
    return (this.#last[direction] = this.#findPair(direction, source, destination))
  }

  #findPair(direction: Direction, source: string, destination: string): Pair {
    const bySource = this.#pairs[direction]
    let byDestination = bySource.get(source)
    const found = byDestination?.get(destination)
    if (found !== undefined) return found
    if (this.#pairCount[direction] >= this.#settings.maxPairs && source !== other) {
      return this.#findPair(direction, other, other)
    }
    if (byDestination === undefined) bySource.set(source, (byDestination = new Map()))
    const pair = new Pair(source, destination)
    byDestination.set(destination, pair)
    this.#pairCount[direction]++
    return pair
  }

  #dumpPair(series: CounterSeries[], direction: string, pair: Pair): void {
    const labels = { direction, source: pair.source, destination: pair.destination }
    for (const [status, byReason] of pair.requests) {
      for (const [reason, value] of byReason) {
        series.push({
          metric: agentMetrics.requests.name,
          labels: { ...labels, status: String(status), reason },
          value,
        })
      }
    }
    for (const [reason, value] of pair.connections) {
      series.push({ metric: agentMetrics.connections.name, labels: { ...labels, reason }, value })
    }
    if (pair.durations > 0) {
      series.push({
        metric: agentMetrics.requestDuration.name,
        labels,
        value: pair.durations,
        sum: pair.seconds,
        buckets: cumulative(pair.buckets),
      })
    }
    series.push({ metric: agentMetrics.requestBytes.name, labels, value: pair.bytesIn })
    series.push({ metric: agentMetrics.responseBytes.name, labels, value: pair.bytesOut })
  }
}

/** Counts up to each bound, as they are exposed. */
function cumulative(buckets: Float64Array): number[] {
  let sum = 0
  return Array.from(buckets, (count) => (sum += count))
}
