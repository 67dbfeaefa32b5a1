import t from 'tap'
import { agentMetrics } from '#shared/metrics/names.ts'
import { CounterLedger } from '#agent/workers/counter-ledger.ts'

const counter = (value: number) => ({
  metric: agentMetrics.requests.name,
  labels: { a: 'x' },
  value,
})
const gauge = (value: number) => ({ metric: agentMetrics.tunnelsOpen.name, labels: {}, value })

t.test('CounterLedger keeps what a dead worker counted, and forgets its gauges', (t) => {
  const ledger = new CounterLedger()
  const [first, second] = [{}, {}]
  ledger.update(first, { series: [counter(3), gauge(2)] })
  ledger.update(second, { series: [counter(4), gauge(5)] })
  t.same(ledger.total().series, [counter(7), gauge(7)])
  ledger.retire(first)
  ledger.update(second, { series: [counter(6), gauge(1)] })
  t.same(ledger.total().series, [counter(9), gauge(1)])
  ledger.retire(first)
  t.same(ledger.total().series, [counter(9), gauge(1)], 'retiring twice changes nothing')
  t.end()
})

t.test('CounterLedger adds histograms bucket by bucket', (t) => {
  const ledger = new CounterLedger()
  const histogram = { metric: agentMetrics.requestDuration.name, labels: {}, value: 2, sum: 0.5 }
  ledger.update({}, { series: [{ ...histogram, buckets: [1, 2] }] })
  ledger.update({}, { series: [{ ...histogram, buckets: [0, 2] }] })
  t.same(ledger.total().series, [
    { metric: histogram.metric, labels: {}, value: 4, sum: 1, buckets: [1, 4] },
  ])
  t.end()
})
