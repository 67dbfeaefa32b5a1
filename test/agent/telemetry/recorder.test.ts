import t from 'tap'
import { Recorder } from '#agent/telemetry/recorder.ts'
import { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { Outcome } from '#shared/model/outcome.ts'

const fine: Outcome = {
  direction: 'outbound',
  protocol: 'http',
  source: null,
  destination: null,
  service: null,
  host: null,
  instance: null,
  method: 'GET',
  path: '/',
  status: 200,
  reason: 'ok',
  rule: null,
  bytesFromCaller: 0,
  bytesToCaller: 0,
  startedAt: 0,
  durationMs: 1,
  attempts: 1,
  mtls: false,
  requestId: '',
}
const all: readonly Outcome[] = [
  fine,
  { ...fine, status: 404 },
  { ...fine, status: 500 },
  { ...fine, status: 503, reason: 'no-instances' },
  { ...fine, protocol: 'tcp', status: 0 },
]

t.test('Recorder counts every outcome and writes those that the setting asks for', async (t) => {
  for (const [accessLog, lines] of [
    ['on', all],
    ['errors', all.slice(2, 4)],
    ['off', []],
  ] as const) {
    const counters = new TrafficCounters()
    const written: Outcome[] = []
    const log = { write: (outcome: Outcome) => void written.push(outcome) }
    const recorder = new Recorder({ counters, log }, { accessLog })
    for (const outcome of all) recorder.record(outcome)
    t.same(written, lines, accessLog)
    const requests = counters
      .dump()
      .series.filter(({ metric }) => metric === 'mesh_requests_total')
      .reduce((sum, { value }) => sum + value, 0)
    t.equal(requests, 4, 'the raw connection is counted apart')
  }
})

t.test(
  'Recorder counts what rules refused, or would have, and writes it in `errors` too',
  async (t) => {
    const counters = new TrafficCounters()
    const written: Outcome[] = []
    const log = { write: (outcome: Outcome) => void written.push(outcome) }
    const recorder = new Recorder({ counters, log }, { accessLog: 'errors' })
    const rule = { rule: 'deny[0]', file: '/p.json', line: 3 }
    recorder.record({ ...fine, rule })
    recorder.record({ ...fine, rule, status: 403, reason: 'policy-denied' })
    recorder.record({ ...fine, rule, status: 400, reason: 'ambiguous-request' })
    recorder.record({ ...fine, status: 403, reason: 'policy-denied' })
    t.equal(written.length, 4)
    const denials = counters
      .dump()
      .series.filter(({ metric }) => metric === agentMetrics.denials.name)
    const labels = { destination: '', rule: 'deny[0]', file: '/p.json' }
    t.match(denials, [
      { labels: { ...labels, mode: 'audit' }, value: 1 },
      { labels: { ...labels, mode: 'enforce' }, value: 2 },
    ])
    t.equal(denials.length, 2, 'what the far agent refused is counted there')
  },
)
