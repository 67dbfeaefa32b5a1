/**
 * Three hosts with two services each under users of their own, and unmodified clients that know
 * nothing of a mesh: every call arrives over mTLS under the identity of the user that made it.
 */

import { join } from 'node:path'
import t from 'tap'
import type { AccessLine, DemoHost } from '#cli/demo/demo-host.ts'
import { asUser, curlAs, userCommand } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'
import { postgresUser, preparePostgres } from '#test/support/postgres-program.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(400_000)

const users = { web: 3001, billing: 3002, orders: 3003, reports: 3006, cache: 'redis' } as const
const service = join(import.meta.dirname, '../support/service-program.ts')

/** Python, as one writes it. */
const python = (url: string): readonly string[] => [
  'python3',
  '-c',
  'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())',
  url,
]

const psql = (at: string): readonly string[] => [
  'psql',
  `host=${at} user=postgres dbname=postgres connect_timeout=10 sslmode=disable`,
  '-Atc',
  'select inet_client_addr() || $$ saw $$ || 6 * 7',
]

const redis = (host: string, port: string, ...words: readonly string[]): readonly string[] => [
  'redis-cli',
  '-h',
  host,
  '-p',
  port,
  ...words,
]

t.test('unmodified programs of three hosts call each other, each as itself', async (t) => {
  const skip = lacks(
    ...(['netns', 'nft', 'setpriv', 'curl', 'psql', 'postgres', 'python3'] as const),
    ...(['redis-server', 'redis-cli'] as const),
  )
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const mesh = await MeshWorld.raise(t, { places: 'namespaces', hosts: 3 })
  const [alpha, beta, gamma] = mesh.world.hosts as [DemoHost, DemoHost, DemoHost]
  const node = (host: DemoHost, port: number) =>
    [process.execPath, service, 'http', '127.0.0.1', String(port), host.name] as const
  const pythonServer = (port: number) =>
    [
      'python3',
      '-m',
      'http.server',
      '--bind',
      '127.0.0.1',
      '-d',
      '/usr/share/doc',
      String(port),
    ] as const
  const serve = (
    host: DemoHost,
    name: string,
    user: number | string,
    command: readonly string[],
    manifest: Readonly<Record<string, unknown>>,
  ): void => {
    host.start(name, userCommand(user, ...command))
    host.dropManifest(name, { run: { user: String(user) }, ...manifest })
  }
  serve(alpha, 'web', users.web, pythonServer(8081), { port: 8081 })
  serve(alpha, 'billing', users.billing, node(alpha, 8082), { port: 8082 })
  serve(beta, 'orders', users.orders, node(beta, 8083), { port: 8083, deny: ['cache'] })
  beta.start('database', [...preparePostgres(t, { port: 5432, trusts: '127.0.0.6' })])
  beta.dropManifest('database', {
    port: 5432,
    run: { user: postgresUser },
    allow: ['billing', 'reports'],
    intercept: [`${beta.place.address}:5432`],
  })
  const server = ['redis-server', '--port', '6379', '--bind', '127.0.0.1', '--save', '']
  serve(gamma, 'cache', users.cache, [...server, '--protected-mode', 'no', '--dir', '/'], {
    port: 6379,
    intercept: [`${gamma.place.address}:6400`],
  })
  serve(gamma, 'reports', users.reports, pythonServer(8086), { port: 8086 })
  const homes: Readonly<Record<string, DemoHost>> = {
    web: alpha,
    billing: alpha,
    orders: beta,
    database: beta,
    cache: gamma,
    reports: gamma,
  }
  for (const host of mesh.world.hosts) {
    for (const [name, home] of Object.entries(homes)) await mesh.sees(host, name, [home.name])
    // Two ports of each service in both families, and two real addresses.
    await mesh.until(`${host.name} captures`, async () => {
      const { capture } = await host.admin.ask('status')
      return (
        capture.kind === 'on' &&
        capture.callers.every((one) => one.user !== null) &&
        capture.destinations >= 26
      )
    })
  }

  const database = /^127\.0\.0\.6\/32 saw 42\n$/
  const rows: readonly (readonly [
    string,
    DemoHost,
    string,
    number | string,
    string,
    readonly string[],
    RegExp,
  ])[] = [
    [
      'curl',
      alpha,
      'web',
      users.web,
      'orders',
      ['curl', '-sS', 'http://orders.mesh/'],
      /service\/web"/,
    ],
    [
      'curl',
      alpha,
      'billing',
      users.billing,
      'orders',
      ['curl', '-sS', 'http://orders.mesh:8083/x'],
      /service\/billing"/,
    ],
    [
      'Python',
      gamma,
      'reports',
      users.reports,
      'orders',
      python('http://orders.mesh/'),
      /service\/reports"/,
    ],
    [
      'Python',
      beta,
      'database',
      postgresUser,
      'reports',
      python('http://reports.mesh/'),
      /Directory listing/,
    ],
    [
      'curl',
      gamma,
      'cache',
      users.cache,
      'web',
      ['curl', '-sS', 'http://web.mesh/'],
      /Directory listing/,
    ],
    ['psql', alpha, 'billing', users.billing, 'database', psql('database.mesh'), database],
    ['psql', gamma, 'reports', users.reports, 'database', psql(beta.place.address), database],
    [
      'redis-cli',
      beta,
      'orders',
      users.orders,
      'cache',
      redis('cache.mesh', '6379', 'set', 'k', 'v'),
      /^OK/,
    ],
    [
      'redis-cli',
      alpha,
      'web',
      users.web,
      'cache',
      redis(gamma.place.address, '6400', 'get', 'k'),
      /^v\n/,
    ],
    [
      'curl of nobody',
      gamma,
      '',
      4000,
      'orders',
      ['curl', '-sS', 'http://orders.mesh/'],
      /host\/gamma"/,
    ],
  ]
  for (const [program, host, caller, user, callee, command, printed] of rows) {
    const what = `${program} of ${caller || 'a stranger'} on ${host.name} reaches ${callee}`
    const home = homes[callee] as DemoHost
    const before = inbound(home).length
    t.match(await asUser(host, user, ...command), printed, what)
    await mesh.until(`${what}: the line is written`, () => inbound(home).length > before)
    const source = caller === '' ? `host/${host.name}` : `service/${caller}`
    t.match(
      inbound(home).at(-1),
      {
        source: `spiffe://mesh.internal/${source}`,
        destination: `spiffe://mesh.internal/service/${callee}`,
        mtls: true,
        reason: 'ok',
      },
      `${what} as itself`,
    )
  }

  const refused = await curlAs(gamma, users.cache, 'http://orders.mesh/')
  t.match(refused, beta.path('mesh.d/orders.json'), 'who is refused is told by which file')
  t.match(refused, 'spiffe://mesh.internal/service/cache', 'and as whom')
  t.match(await asUser(alpha, users.web, ...psql('database.mesh')), /failed 2/)
  await mesh.until('beta tells whom it refused', () =>
    inbound(beta).some(
      ({ source, reason, rule }) =>
        source === 'spiffe://mesh.internal/service/web' &&
        reason === 'policy-denied' &&
        rule?.file === beta.path('mesh.d/database.json'),
    ),
  )
})

/** What arrived at a host, as its workers tell it. */
function inbound(host: DemoHost): readonly AccessLine[] {
  return host.accessLines(500).filter(({ direction }) => direction === 'inbound')
}
