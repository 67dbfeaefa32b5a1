import t from 'tap'
import { agentMetrics, durationBounds } from '#shared/metrics/names.ts'
import { renderMetrics } from '#shared/metrics/registry.ts'

const { requests, requestDuration, workers } = agentMetrics

t.test(
  'renderMetrics writes counters and gauges with help, type and labels in order',
  async (t) => {
    const text = await renderMetrics(
      [requests, workers],
      [
        {
          metric: requests.name,
          labels: {
            reason: 'ok',
            status: '200',
            direction: 'outbound',
            source: 'a',
            destination: 'b"\n\\',
          },
          value: 3,
        },
        { metric: workers.name, labels: {}, value: 2 },
      ],
    )
    t.equal(
      text,
      `# HELP mesh_requests_total ${requests.help}
# TYPE mesh_requests_total counter
mesh_requests_total{direction="outbound",source="a",destination="b\\"\\n\\\\",status="200",reason="ok"} 3

# HELP mesh_workers_connected ${workers.help}
# TYPE mesh_workers_connected gauge
mesh_workers_connected 2
`,
    )
  },
)

t.test('renderMetrics writes a histogram exactly as it was counted', async (t) => {
  const buckets = durationBounds.map((_, i) => i)
  const labels = { direction: 'inbound', source: 'a', destination: 'b' }
  const text = await renderMetrics(
    [requestDuration],
    [{ metric: requestDuration.name, labels, value: 20, sum: 1.25, buckets }],
  )
  const lines = text.split('\n').filter((line) => line.startsWith('mesh_'))
  const tail = 'direction="inbound",source="a",destination="b"'
  t.same(lines, [
    ...durationBounds.map(
      (bound, i) => `mesh_request_duration_seconds_bucket{le="${bound}",${tail}} ${i}`,
    ),
    `mesh_request_duration_seconds_bucket{le="+Inf",${tail}} 20`,
    `mesh_request_duration_seconds_sum{${tail}} 1.25`,
    `mesh_request_duration_seconds_count{${tail}} 20`,
  ])
})

t.test('renderMetrics leaves out what it does not know, and other bounds', async (t) => {
  const text = await renderMetrics(
    [workers, requestDuration],
    [
      { metric: 'mesh_from_the_future', labels: {}, value: 1 },
      { metric: requestDuration.name, labels: {}, value: 1, sum: 1, buckets: [1] },
      { metric: workers.name, labels: { surprise: 'x' }, value: 1 },
    ],
  )
  t.same(
    text.split('\n').filter((line) => line.startsWith('mesh_')),
    ['mesh_workers_connected 1'],
  )
})
