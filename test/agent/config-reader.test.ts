import t from 'tap'
import { readAgentConfig } from '#agent/config-reader.ts'
import { machineFacts } from '#agent/machine-facts.ts'
import { renderProblem } from '#shared/schema/problem.ts'

const machine = { hostname: 'Web-1.example.net', address: '10.0.0.5', cores: 6 }

function read(
  config: unknown,
  environment = {},
  facts: Parameters<typeof readAgentConfig>[1] = machine,
) {
  const bytes = Buffer.from(JSON.stringify(config))
  return readAgentConfig({ file: { path: 'agent.json', bytes }, environment }, facts)
}

void t.test('a controller is all a config needs', (t) => {
  t.strictSame(read({ controller: 'ca.internal:15010' }), {
    ok: true,
    config: {
      host: 'web-1',
      zone: '',
      address: '10.0.0.5',
      controllers: ['ca.internal:15010'],
      joinTokenFile: null,
      paths: {
        manifests: '/etc/mesh.d',
        policies: '/etc/mesh/policies.d',
        state: '/var/lib/mesh/agent',
        run: '/run/mesh/agent',
      },
      listen: {
        tunnel: { address: '0.0.0.0', port: 15008 },
        forwardProxy: { address: '127.0.0.1', port: 15002 },
        applications: { address: '127.0.0.1', port: 15004 },
        metrics: { address: '0.0.0.0', port: 15020 },
        dns: { address: '127.0.0.1', port: 15_053 },
        explicit: '127.0.0.1',
      },
      users: {},
      inboundSource: '127.0.0.6',
      accessLog: 'on',
      capture: {
        wish: null,
        firstPort: 17_000,
        egress: 'allow-any',
        exclude: { ports: [], addresses: [], users: [] },
      },
      log: { level: 'info' },
      maxConnections: 20_000,
      workers: 2,
      retireMs: 86_400_000,
      systemDns: 'off',
      drainMs: 30_000,
      wholeMesh: 10_000,
      limits: {
        headBytes: 65_536,
        headFields: 100,
        headMs: 10_000,
        bodyIdleMs: 60_000,
        responseIdleMs: 300_000,
        idleMs: 300_000,
      },
    },
  })
  t.end()
})

void t.test('variables override the file', (t) => {
  const environment = {
    MESH_HOST: 'b',
    MESH_PATHS_RUN: '/tmp/run',
    MESH_LISTEN_TUNNEL: '[::1]:0',
    MESH_LOG_LEVEL: 'debug',
    MESH_LIMITS_HEAD_BYTES: '8192',
    MESH_JOIN_TOKEN_FILE: '/tmp/token',
    MESH_AGENT_SOCKET: '/another/program',
  }
  t.match(read({ controller: 'c:1', host: 'a' }, environment), {
    ok: true,
    config: {
      host: 'b',
      paths: { run: '/tmp/run', state: '/var/lib/mesh/agent' },
      listen: { tunnel: { address: '::1', port: 0 } },
      log: { level: 'debug' },
      limits: { headBytes: 8192, headFields: 100 },
      joinTokenFile: '/tmp/token',
    },
  })
  t.end()
})

void t.test('a quarter of the cores gets a worker each, four at most and one at least', (t) => {
  const workersOf = (cores: number, more = {}): unknown => {
    const reading = read({ controller: 'c:1', ...more }, {}, { ...machine, cores })
    return reading.ok ? reading.config.workers : reading.problems.map(({ rule }) => rule)
  }
  t.same(
    [1, 4, 5, 16, 64].map((cores) => workersOf(cores)),
    [1, 1, 2, 4, 4],
  )
  t.equal(workersOf(1, { workers: 7 }), 7)
  const anyPort = { listen: { forwardProxy: '127.0.0.1:0' } }
  t.equal(workersOf(16, anyPort), 1, 'a port that is chosen freely cannot be shared')
  t.same(workersOf(16, { ...anyPort, workers: 2 }), ['port-not-shared'])
  t.end()
})

void t.test('every fault is reported together', (t) => {
  const reading = read(
    {
      controller: 'nowhere',
      host: 'A_b',
      address: 'web.example.net',
      paths: { run: 'run' },
      listen: { tunnel: 'localhost:15008', forwardProxy: '0.0.0.0:1', explicit: '0.0.0.0' },
      users: { alice: ['web-*', 'Shop'] },
      inboundSource: '127.0.0.1',
    },
    { MESH_LISTEN_METRICS: '15020', MESH_LISTEN_METRIC: '1' },
  )
  const problems = reading.ok ? [] : reading.problems
  t.strictSame(
    problems.map(({ file, path, rule }) => `${file} ${path} ${rule}`).sort(),
    [
      'MESH_LISTEN_METRIC  unknown-variable',
      'MESH_LISTEN_METRICS /listen/metrics not-an-address',
      'agent.json /address not-an-address',
      'agent.json /controller not-an-address',
      'agent.json /host bad-name',
      'agent.json /inboundSource trusted-source',
      'agent.json /listen/explicit not-loopback',
      'agent.json /listen/forwardProxy not-loopback',
      'agent.json /listen/tunnel not-an-address',
      'agent.json /paths/run relative-path',
      'agent.json /users/alice bad-name',
    ],
    problems.map(renderProblem).join('\n'),
  )
  t.end()
})

void t.test('a run directory too long for its sockets is told as such', (t) => {
  const run = (bytes: number) =>
    read({ controller: 'c:1', paths: { run: `/${'é'.repeat(bytes)}` } })
  t.match(run(42), { ok: true })
  t.match(run(43), {
    ok: false,
    problems: [{ path: '/paths/run', rule: 'path-too-long', message: /1 bytes too long/ }],
  })
  t.end()
})

void t.test('what the machine cannot say must be set', (t) => {
  const bare = { hostname: 'bad_name', address: null, cores: 1 }
  const reading = read({ controller: 'c:1' }, {}, bare)
  t.match(reading.ok ? [] : reading.problems.map(renderProblem), [
    /host name "bad_name" must be .*set host/,
    /address is missing, and this machine has none but loopback \(set address/,
  ])
  const several = read({ controller: 'c1:15010, c2:15010' })
  t.match(several, { ok: true, config: { controllers: ['c1:15010', 'c2:15010'] } })
  t.match(read({ controller: 'c1:15010,c2' }), { ok: false, problems: [{ message: /"c2"/ }] })
  t.match(read({ controller: 'c:0' }), { ok: false, problems: [{ message: /needs a port/ }] })
  for (const address of ['::', '0.0.0.0', 'fe80::1%eth0', 'fe80::1', '224.0.0.1', '10.0.0.5/24'])
    t.match(read({ controller: 'c:1', host: 'a', address }), { ok: false }, address)
  for (const [address, spelled] of [
    ['FD00:0:0::0:B', 'fd00::b'],
    ['::ffff:10.0.0.7', '10.0.0.7'],
  ] as const) {
    const reading = read({ controller: 'c:1', host: 'a', address })
    t.match(reading, { ok: true, config: { address: spelled } }, 'as the kernel spells it')
  }
  t.match(machineFacts(), { hostname: String })
  t.end()
})

void t.test('what is excluded from capture is read as lists, also from variables', (t) => {
  const variables = {
    MESH_CAPTURE_EXCLUDE_PORTS: '[5432]',
    MESH_CAPTURE_EXCLUDE_ADDRESSES: '["10.0.0.0/8", "fd00::/8", "10.1.2.3"]',
  }
  t.match(read({ controller: 'ca:1' }, variables), {
    config: {
      capture: { exclude: { ports: [5432], addresses: ['10.0.0.0/8', 'fd00::/8', '10.1.2.3'] } },
    },
  })
  t.match(read({ controller: 'ca:1', captureExclude: { addresses: ['10.0.0.0/40', 'here'] } }), {
    problems: [{ rule: 'not-an-address' }, { rule: 'not-an-address' }],
  })
  t.match(read({ controller: 'ca:1' }, { MESH_CAPTURE_EXCLUDE_PORTS: '5432' }), { ok: false })
  t.match(read({ controller: 'ca:1', capture: 'off' }, { MESH_EGRESS: 'registry-only' }), {
    problems: [{ rule: 'needs-capture', message: /while capture is off/ }],
  })
  t.end()
})
