/**
 * Owns every metric's name, help, labels and bounds, and nothing else; `docs/metrics.md` is checked
 * against it by a test.
 */

/** What a metric is. */
export interface MetricDefinition {
  readonly name: string
  readonly kind: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labels: readonly string[]
}

/** Upper bounds of duration histograms, seconds. */
export const durationBounds = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
] as const

const traffic = ['direction', 'source', 'destination'] as const

/** Every metric of the agent. */
export const agentMetrics = {
  requests: {
    name: 'mesh_requests_total',
    kind: 'counter',
    help: 'HTTP requests finished, by status and reason.',
    labels: [...traffic, 'status', 'reason'],
  },
  requestDuration: {
    name: 'mesh_request_duration_seconds',
    kind: 'histogram',
    help: 'Time from the first byte of a request to the last byte of its response.',
    labels: traffic,
  },
  requestBytes: {
    name: 'mesh_request_bytes_total',
    kind: 'counter',
    help: 'Bytes of requests and of callers’ side of connections, heads included.',
    labels: traffic,
  },
  responseBytes: {
    name: 'mesh_response_bytes_total',
    kind: 'counter',
    help: 'Bytes of responses and of services’ side of connections, heads included.',
    labels: traffic,
  },
  retries: {
    name: 'mesh_retries_total',
    kind: 'counter',
    help: 'Requests sent again to another instance or connection.',
    labels: ['destination', 'reason'],
  },
  ejections: {
    name: 'mesh_ejections_total',
    kind: 'counter',
    help: 'Instances taken out of rotation for a while as calls to them failed.',
    labels: ['destination'],
  },
  hostLosses: {
    name: 'mesh_host_losses_total',
    kind: 'counter',
    help: 'Far hosts taken out of rotation for not answering, by each worker.',
    labels: ['host'],
  },
  connections: {
    name: 'mesh_connections_total',
    kind: 'counter',
    help: 'TCP connections finished, by reason.',
    labels: [...traffic, 'reason'],
  },
  connectionsOpen: {
    name: 'mesh_connections_open',
    kind: 'gauge',
    help: 'Connections open now, by listener.',
    labels: ['listener'],
  },
  instanceCallsOpen: {
    name: 'mesh_instance_calls_open',
    kind: 'gauge',
    help: 'Requests and connections under way to the instance of a service on this host: what a drain waits for.',
    labels: ['service'],
  },
  limitRefusals: {
    name: 'mesh_limit_refusals_total',
    kind: 'counter',
    help: 'Connections and requests refused because a limit was reached.',
    labels: ['limit'],
  },
  tunnelsOpen: {
    name: 'mesh_tunnels_open',
    kind: 'gauge',
    help: 'mTLS tunnels open now.',
    labels: ['direction'],
  },
  tunnelStreamsOpen: {
    name: 'mesh_tunnel_streams_open',
    kind: 'gauge',
    help: 'CONNECT streams open now, idle ones in the pool included.',
    labels: ['direction'],
  },
  heldBytes: {
    name: 'mesh_held_bytes',
    kind: 'gauge',
    help: 'Bytes that wait for slow readers or their turn, at most 256 MiB in each worker.',
    labels: [],
  },
  handshakes: {
    name: 'mesh_tunnel_handshakes_total',
    kind: 'counter',
    help: 'Tunnel handshakes, by result.',
    labels: ['direction', 'result'],
  },
  denials: {
    name: 'mesh_policy_denials_total',
    kind: 'counter',
    help: 'Calls that a policy rule refused, or would have in audit mode.',
    labels: ['destination', 'rule', 'file', 'mode'],
  },
  handshakesByRoot: {
    name: 'mesh_tunnel_handshakes_by_root_total',
    kind: 'counter',
    help: 'Tunnel handshakes that worked, by the root the peer’s certificate chains to.',
    labels: ['direction', 'root'],
  },
  trustRecordsRefused: {
    name: 'mesh_trust_records_refused_total',
    kind: 'counter',
    help: 'Signed records of the store that this host did not believe, by record and reason.',
    labels: ['record', 'reason'],
  },
  trustEpoch: {
    name: 'mesh_trust_epoch',
    kind: 'gauge',
    help: 'Epoch of the trust bundle, the bans and the mesh’s policies this host acts on; grows with each change.',
    labels: ['record'],
  },
  snapshotRevision: {
    name: 'mesh_snapshot_revision',
    kind: 'gauge',
    help: 'Store revision of the view in use.',
    labels: [],
  },
  viewAge: {
    name: 'mesh_view_age_seconds',
    kind: 'gauge',
    help: 'How long ago the store last vouched for the view in use; 0 while its session is up.',
    labels: [],
  },
  outageBudget: {
    name: 'mesh_outage_budget_seconds',
    kind: 'gauge',
    help: 'How long this host could go on with controller and store away: until its first certificate ends; 0 without one or without a view.',
    labels: [],
  },
  hostsKept: {
    name: 'mesh_hosts_kept',
    kind: 'gauge',
    help: 'Hosts that the store has lost sight of, kept because they answer.',
    labels: [],
  },
  storeConnected: {
    name: 'mesh_store_connected',
    kind: 'gauge',
    help: '1 while the store session is up.',
    labels: [],
  },
  storeSessions: {
    name: 'mesh_store_sessions_total',
    kind: 'counter',
    help: 'Sessions with the store, by how they began: everything was listed, or they went on from the last.',
    labels: ['began'],
  },
  instancesKnown: {
    name: 'mesh_instances_known',
    kind: 'gauge',
    help: 'Instances in the view in use.',
    labels: [],
  },
  discoveryOnDemand: {
    name: 'mesh_discovery_on_demand',
    kind: 'gauge',
    help: '1 while only the services in use on this host are followed, 0 while the whole mesh is.',
    labels: [],
  },
  servicesInUse: {
    name: 'mesh_services_in_use',
    kind: 'gauge',
    help: 'Services this host uses: named by its manifests, or called or asked for within a day.',
    labels: [],
  },
  serviceLookups: {
    name: 'mesh_service_lookups_total',
    kind: 'counter',
    help: 'Services that were looked for because somebody asked, by what came of it.',
    labels: ['result'],
  },
  certificateExpiry: {
    name: 'mesh_certificate_expiry_timestamp_seconds',
    kind: 'gauge',
    help: 'When the certificate of an identity ends.',
    labels: ['identity'],
  },
  manifests: {
    name: 'mesh_manifests',
    kind: 'gauge',
    help: 'Manifest files by verdict.',
    labels: ['verdict'],
  },
  healthy: {
    name: 'mesh_instance_healthy',
    kind: 'gauge',
    help: '1 while the local instance passes its health checks, or only warns.',
    labels: ['service'],
  },
  captureDestinations: {
    name: 'mesh_capture_destinations',
    kind: 'gauge',
    help: 'Addresses and ports that lead local programs into the mesh; 0 while nothing is captured.',
    labels: [],
  },
  captureBypasses: {
    name: 'mesh_capture_bypasses',
    kind: 'gauge',
    help: 'Services that an operator has taken out of the mesh on this host for a time.',
    labels: [],
  },
  plaintext: {
    name: 'mesh_plaintext_connections_total',
    kind: 'counter',
    help: 'Connections to a service that did not come through the mesh, while it is permissive.',
    labels: ['service'],
  },
  egressRefused: {
    name: 'mesh_egress_refused_total',
    kind: 'counter',
    help: 'Attempts of a service to reach what the mesh does not know, while egress is registry-only.',
    labels: ['service'],
  },
  externalAddresses: {
    name: 'mesh_external_addresses',
    kind: 'gauge',
    help: 'Addresses at which an external service is called; 0 while its names lead nowhere.',
    labels: ['service'],
  },
  healthChanges: {
    name: 'mesh_health_changes_total',
    kind: 'counter',
    help: 'Changes of a local instance’s health, by the state it changed to; many mean it is flapping.',
    labels: ['service', 'state'],
  },
  dnsQueries: {
    name: 'mesh_dns_queries_total',
    kind: 'counter',
    help: 'Questions to the mesh’s DNS, by how they ended.',
    labels: ['outcome'],
  },
  workers: {
    name: 'mesh_workers_connected',
    kind: 'gauge',
    help: 'Proxy workers connected to the control process.',
    labels: [],
  },
  workerCrashes: {
    name: 'mesh_worker_crashes_total',
    kind: 'counter',
    help: 'Proxy workers that ended without a goodbye.',
    labels: [],
  },
} as const satisfies Record<string, MetricDefinition>

/** Every metric of the controller. */
export const controllerMetrics = {
  calls: {
    name: 'mesh_controller_calls_total',
    kind: 'counter',
    help: 'Calls of the controller API, by method and by ok or the refusal’s code.',
    labels: ['method', 'code'],
  },
  connectionsOpen: {
    name: 'mesh_controller_connections_open',
    kind: 'gauge',
    help: 'Connections open now, by port.',
    labels: ['port'],
  },
  certificateExpiry: {
    name: 'mesh_controller_certificate_expiry_timestamp_seconds',
    kind: 'gauge',
    help: 'When a certificate of the controller’s own ends.',
    labels: ['certificate'],
  },
  trustEpoch: {
    name: 'mesh_controller_trust_epoch',
    kind: 'gauge',
    help: 'Epoch of the trust bundle, the bans and the mesh’s policies as published; hosts follow it.',
    labels: ['record'],
  },
  recordsRefused: {
    name: 'mesh_controller_records_refused_total',
    kind: 'counter',
    help: 'Signed records found in the store and not believed, by kind of record and reason; what was known is put there again.',
    labels: ['record', 'reason'],
  },
  banned: {
    name: 'mesh_controller_banned',
    kind: 'gauge',
    help: 'Hosts and certificates that are banned.',
    labels: ['kind'],
  },
  storeRevision: {
    name: 'mesh_controller_store_revision',
    kind: 'gauge',
    help: 'Newest revision of the embedded store.',
    labels: [],
  },
  storeBytes: {
    name: 'mesh_controller_store_bytes',
    kind: 'gauge',
    help: 'Size of the embedded store’s file.',
    labels: [],
  },
  storeLeases: {
    name: 'mesh_controller_store_leases',
    kind: 'gauge',
    help: 'Leases of the embedded store that have not lapsed: about one for each host.',
    labels: [],
  },
  storeWatches: {
    name: 'mesh_controller_store_watches',
    kind: 'gauge',
    help: 'Watches the embedded store serves now.',
    labels: [],
  },
  storeWritable: {
    name: 'mesh_controller_store_writable',
    kind: 'gauge',
    help: 'Whether the embedded store’s last write succeeded: 0 when its disk is full or broken.',
    labels: [],
  },
  leader: {
    name: 'mesh_controller_leader',
    kind: 'gauge',
    help: '1 on the controller that leads: the one that changes what all share.',
    labels: [],
  },
  journalLost: {
    name: 'mesh_controller_journal_lost_total',
    kind: 'counter',
    help: 'Certificates that are missing in the journal because the store took no entry for too long.',
    labels: [],
  },
  storeFailedCommits: {
    name: 'mesh_controller_store_failed_commits_total',
    kind: 'counter',
    help: 'Commits of the embedded store that failed and were undone.',
    labels: [],
  },
} as const satisfies Record<string, MetricDefinition>
