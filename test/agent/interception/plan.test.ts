import t from 'tap'
import { planCapture, type LocalService, type PlanFacts } from '#agent/interception/plan.ts'
import { must, parseHostName, parsePort, parseServiceName } from '#shared/model/names.ts'
import { externalOf, snapshotOf } from '#test/support/snapshots.ts'

const name = (text: string) => must(parseServiceName(text))
const local = (service: string, more: Partial<LocalService> = {}): LocalService => ({
  service: name(service),
  user: 1001,
  at: { address: '127.0.0.1', port: 8080 },
  holdsPort: true,
  inbound: 'permissive',
  intercept: [],
  onAgentDown: 'direct',
  ...more,
})
const numbers: Readonly<Record<string, number>> = { orders: 1, web: 2, db: 3, agent: 9 }
const far = snapshotOf([
  { service: 'orders', host: 'self' },
  { service: 'db', host: 'b', port: 5432 },
])

function plan(facts: Partial<PlanFacts>) {
  return planCapture({
    locals: [],
    snapshot: far,
    addressOf: (service) => numbers[service] ?? null,
    callerOf: (service) => numbers[service] ?? null,
    virtualRange6: 'fd12:1:2::/48',
    resolve: (text) => {
      const [, address = '', port = ''] = /^(.*):(\d+)$/.exec(text) ?? []
      return [{ address, port: Number(port) }]
    },
    agentUser: 0,
    tellsUnits: true,
    exempt: { ports: new Set([22, 15008]), hasAddress: (address) => address === '10.9.9.9' },
    exemptUsers: [],
    bypassed: new Set(),
    explicitAddress: '127.0.0.1',
    ...facts,
  })
}

t.test('a service answers at its virtual IPs, on port 80 and its own', async (t) => {
  const { state, names, view } = plan({})
  t.same(names.get('db'), {
    service: 'db',
    ipv4: '240.240.0.3',
    ipv6: 'fd12:1:2::3',
    ports: [80, 5432],
  })
  t.equal(view.services['fd12:1:2::3'], 'db')
  t.equal(state.destinations.length, 10)
  t.match([names.get('agent')?.ports, view.services['240.240.0.9']], [[80], 'agent'])
  t.same(plan({ virtualRange6: null }).view.addresses, ['0.0.0.0'])
})

t.test('a host draws to itself what would go to it anyway, and nothing else', async (t) => {
  const db = { ...far.services['db'] } as (typeof far.services)[string]
  const publishing = (intercept: readonly string[]) => ({
    ...far,
    services: {
      ...far.services,
      db: { ...db, instances: db.instances.map((one) => ({ ...one, intercept })) },
    },
  })
  const { state, problems } = plan({ snapshot: publishing(['10.0.0.2:5432', '8.8.8.8:443']) })
  const real = state.destinations.filter(({ address }) => !/^(240|fd12)/.test(address))
  t.same(real, [{ address: '10.0.0.2', port: 5432, virtual: '240.240.0.3', denied: false }])
  t.match(problems, [/8\.8\.8\.8:443 of db is not an address of its host b/])
  const claiming = publishing(['10.0.0.2:5432'])
  const b = claiming.hosts['b']
  if (b === undefined) throw new Error('no host b')
  const held = { ...b, heldBy: must(parseHostName('victim')) }
  const late = plan({ snapshot: { ...claiming, hosts: { ...claiming.hosts, b: held } } })
  t.notOk(late.state.destinations.some(({ address }) => address === '10.0.0.2'))
  t.match(late.problems, [
    /hosts that say they are where another was before: b at 10\.0\.0\.2 of victim$/,
    /10\.0\.0\.2:5432 of db is the address of victim, not of b/,
  ])
})

t.test('what is excluded or taken is not captured, and named', async (t) => {
  const intercept = [
    '10.0.0.7:22',
    '10.0.0.7:15008',
    '10.9.9.9:80',
    '10.0.0.7:80',
    '240.240.0.3:80',
  ]
  const { problems, serviceAt } = plan({ locals: [local('orders', { intercept })] })
  t.equal(serviceAt.get('10.0.0.7 80'), 'orders')
  t.match(problems, [
    /port 22 is never/,
    /port 15008 is never/,
    /10\.9\.9\.9 is excluded/,
    /already leads to db/,
  ])
})

t.test('a strict port is locked by number and led into the mesh for local callers', async (t) => {
  const strict = plan({ locals: [local('orders', { inbound: 'strict' })] })
  t.same(strict.state.locks, [{ port: 8080, users: [0, 1001], mode: 'strict' }])
  t.equal(strict.serviceAt.get('127.0.0.1 8080'), 'orders')
  t.same(strict.state.answers, [{ address: '127.0.0.1', port: 8080, users: [0, 1001] }])
  const claimed = plan({ locals: [local('orders', { inbound: 'strict', holdsPort: false })] })
  t.same([claimed.state.locks, claimed.state.answers], [[], []], 'a claim alone locks nobody out')
  t.same(plan({ locals: [local('orders', { inbound: 'off' })] }).state.locks, [])
})

t.test('who is known by no user has no port of its own', async (t) => {
  const { view, callers } = plan({
    locals: [local('orders'), local('web', { user: null, at: null })],
  })
  t.same(view.callers, [
    { index: 0, service: null },
    { index: 1, service: 'orders' },
  ])
  t.same(callers, [{ service: 'orders', who: { kind: 'user', user: 1001 }, index: 1 }])
})

t.test(
  'a unit is a caller whatever its user, and its user alone no way around locks',
  async (t) => {
    const group = { path: 'system.slice/web.service', level: 2, id: 7 }
    const web = { name: 'web.service', group }
    const locals = [
      local('orders', { unit: { name: 'orders.service', group: null }, inbound: 'strict' }),
      local('web', { unit: web, at: { address: '127.0.0.1', port: 8081 }, inbound: 'strict' }),
    ]
    const { view, callers, state } = plan({ locals, agentUser: 990 })
    t.same(
      view.callers.map(({ service }) => service),
      [null, 'orders', 'web'],
      'its port is open before it runs',
    )
    t.same(
      callers.map(({ who }) => who),
      [null, { kind: 'unit', group }],
    )
    t.same(
      state.locks.map(({ users }) => users),
      [[990], [990]],
      'two are of one user',
    )
    t.same(state.answers[0]?.users, [0, 1001])
    t.same(plan({ locals: locals.slice(1), agentUser: 990 }).state.locks[0]?.users, [990, 1001])
    const root = { ...local('db', { unit: web, user: 0, inbound: 'strict' }) }
    const ofRoot = plan({ locals: [root], agentUser: 990 }).state
    t.same([ofRoot.locks[0]?.users, ofRoot.answers[0]?.users], [[990], [0]])
    const deaf = plan({ locals, tellsUnits: false })
    t.match(deaf.problems, [/orders\.service: this kernel does not tell units apart/, /web/])
  },
)

t.test(
  'a named port has a virtual IP of its own, and its number at that of the service',
  async (t) => {
    const snapshot = snapshotOf([{ service: 'db', host: 'b', port: 5432, ports: { admin: 9090 } }])
    const at: Readonly<Record<string, number>> = { db: 3, 'admin.db': 4, agent: 9 }
    const { names, view, serviceAt, state } = plan({
      snapshot,
      addressOf: (one) => at[one] ?? null,
    })
    t.match(names.get('admin.db'), { service: 'admin.db', ipv4: '240.240.0.4', ports: [80, 9090] })
    t.equal(view.services['240.240.0.4'], 'admin.db')
    t.equal(serviceAt.get('240.240.0.3 9090'), 'admin.db')
    const led = state.destinations.find(
      ({ address, port }) => address === '240.240.0.3' && port === 9090,
    )
    t.equal(led?.virtual, '240.240.0.4')
    t.equal(serviceAt.get('240.240.0.3 80'), 'db')
  },
)

t.test(
  'every port of a strict service is locked, answered for and led into the mesh',
  async (t) => {
    const also = [{ address: '127.0.0.1', port: 9090 }]
    const snapshot = snapshotOf([{ service: 'orders', host: 'self', ports: { admin: 9090 } }])
    const at: Readonly<Record<string, number>> = { orders: 1, 'admin.orders': 4, agent: 9 }
    const { state, serviceAt } = plan({
      snapshot,
      addressOf: (one) => at[one] ?? null,
      locals: [local('orders', { inbound: 'strict', also })],
    })
    t.same(
      state.locks.map(({ port }) => port),
      [8080, 9090],
    )
    t.same(
      state.answers.map(({ port }) => port),
      [8080, 9090],
    )
    t.equal(serviceAt.get('127.0.0.1 9090'), 'admin.orders')
    t.equal(serviceAt.get('127.0.0.1 8080'), 'orders')
  },
)

t.test(
  'an explicit listener leads to its service, whose callers the kernel tells apart',
  async (t) => {
    const listeners = [{ service: name('db'), port: must(parsePort(9001)), file: 'web.json' }]
    const { state, serviceAt } = plan({ snapshot: { ...far, listeners } })
    t.equal(serviceAt.get('127.0.0.1 9001'), 'db')
    t.match(
      state.destinations.find(({ port }) => port === 9001),
      { address: '127.0.0.1', virtual: '240.240.0.3', denied: false },
    )
    const { serviceAt: now } = plan({
      snapshot: { ...far, listeners },
      bypassed: new Set(['db']),
    })
    t.notOk(now.has('127.0.0.1 9001'), 'a service that bypasses the mesh is left alone')
  },
)

t.test(
  'an external service has virtual IPs, and what leads to it is the agent’s way out',
  async (t) => {
    const api = externalOf('web', ['203.0.113.5'], {
      intercept: ['203.0.113.5:80', '203.0.113.6:80'],
      onAgentDown: 'deny',
    })
    const { names, state, serviceAt, problems } = plan({
      snapshot: { ...far, external: [api] },
      isConfined: true,
    })
    t.same(names.get('web')?.ports, [80, 443])
    const real = state.destinations.filter(({ address }) => address.startsWith('203.'))
    t.match(real, [
      { address: '203.0.113.5', port: 80, virtual: '240.240.0.2', denied: true },
      { address: '203.0.113.6', port: 80, virtual: '240.240.0.2', denied: true },
    ])
    const way = state.dialled.map(({ address, port }) => `${address}:${port}`)
    t.same(way, ['203.0.113.5:443', '203.0.113.5:80', '203.0.113.6:80'])
    t.ok(
      real.every(({ address, port }) => way.includes(`${address}:${port}`)),
      'or it went in circles',
    )
    t.same(
      state.registered.map(({ address }) => address),
      ['203.0.113.5', '203.0.113.6'],
    )
    t.same(problems, [])

    const both = { ...far, external: [externalOf('db', [])] }
    const clash = plan({ snapshot: both })
    t.match(clash.problems, [/db is outside the mesh, says a manifest of this host, and a service/])
    t.equal(serviceAt.get('203.0.113.5 80'), 'web')
  },
)

t.test(
  'whoever answers for a name outside draws nothing to himself that was not his',
  async (t) => {
    const found = ['203.0.113.5', '10.0.0.5', '127.0.0.1', '203.0.113.1', '169.254.169.254']
    const facts = {
      resolve: (text: string) =>
        text === 'api.example:80'
          ? found.map((address) => ({ address, port: 80 }))
          : [{ address: text.slice(0, text.lastIndexOf(':')), port: 80 }],
      isHere: (address: string) => address === '203.0.113.1',
    }
    const led = (endpoints: readonly string[], intercept: readonly string[]) => {
      const external = [externalOf('web', endpoints, { intercept })]
      const { state, problems } = plan({ ...facts, snapshot: { ...far, external } })
      const real = state.destinations
        .map(({ address }) => address)
        .filter((one) => found.includes(one))
      return { real, problems }
    }
    const open = led(['203.0.113.5'], ['api.example:80'])
    t.same(open.real, ['203.0.113.5'])
    t.equal(open.problems.length, 4)
    t.match(open.problems, [
      /10\.0\.0\.5, of a private network/,
      /127\.0\.0\.1, which is not outside/,
    ])
    t.same(
      led(['10.0.0.7'], ['api.example:80']).real,
      ['203.0.113.5', '10.0.0.5'],
      'within a network',
    )
    const said = led(['203.0.113.5'], ['10.0.0.5:80', '127.0.0.1:80'])
    t.same(said.real, ['10.0.0.5', '127.0.0.1'], 'what the manifest spells out is its own word')
  },
)

t.test(
  'what a kernel without masquerade cannot do is said where somebody would need it',
  async (t) => {
    const plain = snapshotOf([{ service: 'db', host: 'b', port: 5432 }])
    const { db } = plain.services
    if (db === undefined) throw new Error('there is one')
    const instances = db.instances.map((one) => ({ ...one, plain: true as const }))
    const snapshot = { ...plain, services: { db: { ...db, instances } } }
    t.equal(plan({ snapshot }).limit, '')
    t.equal(plan({ masquerades: false }).limit, '', 'nobody may be called in plain')
    t.match(plan({ snapshot, masquerades: false }).limit, /nft_masq/)
  },
)
