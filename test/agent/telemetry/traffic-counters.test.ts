import t from 'tap'
import { agentMetrics, durationBounds } from '#shared/metrics/names.ts'
import { must, parseHostName, parseServiceName, parseTrustDomain } from '#shared/model/names.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import { hostId, serviceId } from '#shared/model/spiffe-id.ts'
import { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'

const domain = must(parseTrustDomain('mesh.internal'))
const service = must(parseServiceName('orders'))
const source = (name: string) => hostId(domain, must(parseHostName(name)))
const outcome: Outcome = {
  direction: 'outbound',
  protocol: 'http',
  source: source('h1'),
  destination: serviceId(domain, service),
  service,
  host: null,
  instance: null,
  method: 'GET',
  path: '/',
  status: 200,
  reason: 'ok',
  rule: null,
  bytesFromCaller: 100,
  bytesToCaller: 1000,
  startedAt: 0,
  durationMs: 3,
  attempts: 1,
  mtls: true,
  requestId: '',
}

t.test('TrafficCounters counts requests by status and reason under both identities', (t) => {
  const counters = new TrafficCounters()
  counters.count(outcome)
  counters.count(outcome)
  counters.count({ ...outcome, status: 503, reason: 'no-instances' })
  const labels = {
    direction: 'outbound',
    source: 'spiffe://mesh.internal/host/h1',
    destination: 'spiffe://mesh.internal/service/orders',
  }
  const { series } = counters.dump()
  const requests = series.filter((one) => one.metric === agentMetrics.requests.name)
  t.same(requests, [
    {
      metric: agentMetrics.requests.name,
      labels: { ...labels, status: '200', reason: 'ok' },
      value: 2,
    },
    {
      metric: agentMetrics.requests.name,
      labels: { ...labels, status: '503', reason: 'no-instances' },
      value: 1,
    },
  ])
  const [duration] = series.filter((one) => one.metric === agentMetrics.requestDuration.name)
  t.match(duration, { labels, value: 3 })
  t.same(
    duration?.buckets,
    durationBounds.map((bound) => (bound >= 0.003 ? 3 : 0)),
    'buckets are cumulative',
  )
  t.match(
    series.find((one) => one.metric === agentMetrics.responseBytes.name),
    { labels, value: 3000 },
  )
  t.end()
})

t.test('TrafficCounters counts connections apart from requests', (t) => {
  const counters = new TrafficCounters()
  counters.count({ ...outcome, protocol: 'tcp', status: 0, reason: 'caller-aborted' })
  const names = counters.dump().series.map((one) => one.metric)
  t.notOk(names.includes(agentMetrics.requests.name))
  t.ok(names.includes(agentMetrics.connections.name))
  t.end()
})

t.test('TrafficCounters counts pairs past the limit together and loses none', (t) => {
  const counters = new TrafficCounters({ maxPairs: 3 })
  for (let i = 0; i < 10; i++) counters.count({ ...outcome, source: source(`h${i}`) })
  const requests = counters.dump().series.filter((one) => one.metric === agentMetrics.requests.name)
  t.equal(requests.length, 4)
  t.equal(
    requests.reduce((sum, one) => sum + one.value, 0),
    10,
  )
  t.match(requests.at(-1), { labels: { source: 'other', destination: 'other' }, value: 7 })
  t.end()
})
