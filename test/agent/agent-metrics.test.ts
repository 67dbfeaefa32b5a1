import t from 'tap'
import { agentReports, now, worker, type Bent } from '#test/support/agent-reports.ts'

const pageOf = (bent: Bent): Promise<string> => agentReports(bent).metrics.metricsText()

t.test('the age of the view counts from when the store vouched for it last', async (t) => {
  t.match(
    await pageOf({ discovery: { vouchedAtMs: now - 90_000, source: 'disk' } }),
    'mesh_view_age_seconds 90\n',
  )
  t.match(
    await pageOf({ discovery: { vouchedAtMs: now + 1000 } }),
    'mesh_view_age_seconds 0\n',
    'a clock that was set back makes no view younger than new',
  )
  t.notMatch(await pageOf({ discovery: { vouchedAtMs: 0 } }), /^mesh_view_age_seconds /m)
})

t.test('a host without a view or a certificate could not go on alone', async (t) => {
  const none: Bent[] = [{ isAlone: true }, { discovery: { source: 'none', vouchedAtMs: 0 } }]
  for (const bent of none) t.match(await pageOf(bent), 'mesh_outage_budget_seconds 0\n')
})

t.test('AgentMetrics puts its own series beside those of the workers', async (t) => {
  const series = [
    { metric: 'mesh_tunnels_open', labels: { direction: 'inbound' }, value: 3 },
    { metric: 'of_a_newer_worker', labels: {}, value: 1 },
  ]
  const { metrics } = agentReports({
    hub: {
      workers: [worker],
      crashes: 0,
      collect: async () => ({ series, carried: new Map([['orders', 2]]) }),
      retireMs: 1000,
      wanted: 1,
      back: Promise.resolve(),
    },
  })
  const page = await metrics.metricsText()
  for (const line of [
    'mesh_tunnels_open{direction="inbound"} 3',
    'mesh_instance_calls_open{service="orders"} 2',
    'mesh_store_connected 1',
    'mesh_store_sessions_total{began="listed"} 1',
    'mesh_store_sessions_total{began="resumed"} 0',
    'mesh_instances_known 2',
    'mesh_discovery_on_demand 1',
    'mesh_services_in_use 2',
    'mesh_service_lookups_total{result="found"} 3',
    'mesh_view_age_seconds 0',
    'mesh_outage_budget_seconds 0.5',
    'mesh_hosts_kept 0',
    'mesh_workers_connected 1',
    'mesh_manifests{verdict="accepted"} 1',
    'mesh_manifests{verdict="rejected"} 0',
    'mesh_instance_healthy{service="orders"} 1',
  ])
    t.match(page, line)
  t.match(
    page,
    /mesh_certificate_expiry_timestamp_seconds\{identity="[^"]*host\/self"\} 1767312001/,
  )
  t.notMatch(page, 'of_a_newer_worker')
})
