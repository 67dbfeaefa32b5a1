import t from 'tap'
import { Recorder } from '#agent/telemetry/recorder.ts'
import { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'
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
