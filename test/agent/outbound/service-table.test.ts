import t from 'tap'
import { InstanceLoads } from '#agent/balance/instance-loads.ts'
import { slowStartMs } from '#agent/balance/endpoint.ts'
import { mostHosts } from '#agent/balance/subset.ts'
import { must, parseServiceName, type ServiceName } from '#shared/model/names.ts'
import type { InstanceId, HostName } from '#shared/model/names.ts'
import { hostId } from '#shared/model/spiffe-id.ts'
import { parseTarget, targetName } from '#shared/model/target.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import type { MeshEndpoint, PooledUpstream } from '#agent/outbound/mesh-endpoint.ts'
import { ServiceTable, type CallableService } from '#agent/outbound/service-table.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { externalOf, self, snapshotOf, trustDomain } from '#test/support/snapshots.ts'

const caller = hostId(trustDomain, self)
const name = (text: string): ServiceName => must(parseServiceName(text))

/** An upstream that only remembers whether it was closed. */
class FakeUpstream implements PooledUpstream {
  readonly host: HostName
  readonly instance: InstanceId
  readonly mtls = true
  isClosed = false
  constructor(endpoint: MeshEndpoint) {
    this.host = endpoint.instance.host
    this.instance = endpoint.instance.id
  }
  takeIdle(): null {
    return null
  }
  open(): void {}
  release(): void {}
  started(): void {}
  finished(): void {}
  close(): void {
    this.isClosed = true
  }
}

function makeTable(...snapshots: readonly Snapshot[]) {
  const clock = new FakeClock()
  const ejected: string[] = []
  const asked: string[] = []
  const table = new ServiceTable({
    clock,
    loads: new InstanceLoads({ shareOf: (limit) => limit }),
    hosts: {
      lifeOf: ({ name: host }) => {
        asked.push(host)
        return { isLost: false }
      },
    },
    onEjected: ({ instance }) => void ejected.push(instance.host),
    makeUpstream: (endpoint) => new FakeUpstream(endpoint),
  })
  for (const snapshot of snapshots) table.apply(snapshot)
  const find = (service: string): CallableService => {
    const found = table.find(name(service))
    if (found === null) throw new Error(`no ${service}`)
    return found
  }
  const endpoints = (service: string): readonly MeshEndpoint[] => find(service).picker.endpoints
  return { clock, table, find, endpoints, ejected, asked }
}

const orders = [
  { service: 'orders', host: 'beta' },
  { service: 'orders', host: 'gamma' },
]

t.test(
  'ServiceTable keeps an endpoint, its load and its channels, through snapshots',
  async (t) => {
    const { table, find, endpoints } = makeTable(snapshotOf(orders))
    const [beta] = endpoints('orders')
    const upstream = beta?.upstreamFor(caller) as FakeUpstream
    beta?.upstreamFor(caller)
    upstream.started()
    const { budget } = find('orders')
    table.apply(snapshotOf([{ ...orders[0], weight: 7 } as (typeof orders)[0], ...orders.slice(1)]))
    t.equal(endpoints('orders')[0], beta)
    t.equal(beta?.weight, 7, 'with its new weight')
    t.equal(beta?.upstreamFor(caller), upstream)
    t.equal(find('orders').budget, budget)
    t.notOk(upstream.isClosed)
  },
)

t.test('ServiceTable makes endpoints of services that are called, and of no others', async (t) => {
  const all = [...orders, { service: 'billing', host: 'beta' }]
  const { table, find, endpoints, asked } = makeTable(snapshotOf(all), snapshotOf(all))
  t.same(asked, [])
  const called = find('orders')
  t.equal(find('orders'), called)
  t.same(asked, ['beta', 'gamma'])
  const [first] = endpoints('orders')
  const upstream = first?.upstreamFor(caller) as FakeUpstream
  table.apply(snapshotOf([...all, { service: 'billing', host: 'gamma' }]))
  t.same(asked, ['beta', 'gamma'], 'a change of another service makes none either')
  t.equal(endpoints('orders')[0], first)
  table.apply({ ...snapshotOf(all), external: [externalOf('orders', ['203.0.113.5'])] })
  t.ok(upstream.isClosed, 'what has gone outside is called there only')
  t.equal(endpoints('billing').length, 1)
})

t.test('ServiceTable retires what is gone or has moved', async (t) => {
  for (const after of [
    [orders[1]],
    [{ ...orders[0], port: 9090 }, orders[1]],
  ] as (typeof orders)[]) {
    const { table, endpoints } = makeTable(snapshotOf(orders))
    const [beta, gamma] = endpoints('orders')
    const gone = beta?.upstreamFor(caller) as FakeUpstream
    const kept = gamma?.upstreamFor(caller) as FakeUpstream
    table.apply(snapshotOf(after))
    t.ok(gone.isClosed)
    t.notOk(kept.isClosed)
    t.notOk(endpoints('orders').includes(beta as MeshEndpoint))
  }
})

t.test('ServiceTable knows services and hosts by any name a name may be', async (t) => {
  const { table, endpoints } = makeTable(
    snapshotOf(
      [
        { service: 'constructor', host: 'tostring' },
        { service: 'orders', host: 'constructor' },
        { service: 'orders', host: 'valueof' },
      ],
      ['constructor'],
    ),
  )
  t.equal(endpoints('constructor').length, 1)
  t.same(
    endpoints('orders').map(({ instance }) => instance.host),
    ['valueof'],
    'a host that is not present is not called',
  )
  t.equal(table.find(name('tostring')), null)
  t.equal(table.find('__proto__' as ServiceName), null)
})

t.test('ServiceTable calls a local instance directly, and none that drains', async (t) => {
  const here = { service: 'orders', host: self, port: 8081 }
  const { table, endpoints } = makeTable(snapshotOf([here, ...orders]))
  t.match(
    endpoints('orders').map(({ place }) => place.kind),
    ['local', 'far', 'far'],
  )
  t.match(endpoints('orders')[0]?.place, { instance: { port: 8081, address: '127.0.0.1' } })
  table.apply(snapshotOf([{ ...here, draining: true }, ...orders]))
  t.match(
    endpoints('orders').map(({ place }) => place.kind),
    ['far', 'far'],
  )
})

t.test(
  'MeshEndpoint is ejected after failures in a row, unless too few would be left',
  async (t) => {
    const { clock, table, endpoints } = makeTable(snapshotOf(orders))
    const [beta, gamma] = endpoints('orders') as [MeshEndpoint, MeshEndpoint]
    const fails = (
      endpoint: MeshEndpoint,
      result: 'connect-failed' | 'reset',
      times: number,
    ): void => {
      for (let i = 0; i < times; i++) {
        endpoint.active++
        endpoint.attempted(result)
      }
    }
    fails(beta, 'connect-failed', 1)
    t.equal(beta.ejectedUntil, 0)
    fails(beta, 'connect-failed', 1)
    t.equal(beta.ejectedUntil, 1000)
    fails(gamma, 'reset', 50)
    t.equal(gamma.ejectedUntil, 0, 'the last one stays, whatever it does')
    t.equal(gamma.active, 0)
    await clock.advance(1000)
    fails(gamma, 'reset', 5)
    t.equal(gamma.ejectedUntil, 2000)
    table.apply(snapshotOf([{ service: 'orders', host: 'beta' }]))
    fails(beta, 'connect-failed', 5)
    t.equal(beta.ejectedUntil, 1000, 'alone, it is given up no more')
  },
)

t.test('ServiceTable tells of an ejection, once for each', async (t) => {
  const { endpoints, ejected } = makeTable(snapshotOf(orders))
  const [beta] = endpoints('orders')
  for (let i = 0; i < 3; i++) {
    beta?.attempting()
    beta?.attempted('connect-failed')
  }
  t.same(ejected, ['beta'])
})

t.test('ServiceTable spares an instance that joins others, and no other', async (t) => {
  const { clock, table, endpoints } = makeTable(snapshotOf(orders.slice(0, 1)))
  t.equal(endpoints('orders')[0]?.warmUntil, 0, 'the first ones take what there is')
  await clock.advance(5000)
  table.apply(snapshotOf(orders))
  t.same(
    endpoints('orders').map(({ warmUntil }) => warmUntil),
    [0, 5000 + slowStartMs],
  )
  table.apply(snapshotOf([]))
  table.apply(snapshotOf(orders))
  t.same(
    endpoints('orders').map(({ warmUntil }) => warmUntil),
    [0, 0],
  )
})

t.test('ServiceTable takes a part of a large service, and always the host’s own', async (t) => {
  const many = Array.from({ length: 40 }, (_, i) => ({ service: 'orders', host: `host-${i}` }))
  const { endpoints } = makeTable(snapshotOf([...many, { service: 'orders', host: self }]))
  const places = endpoints('orders').map(({ instance }) => instance.host)
  t.equal(places.length, mostHosts + 1)
  t.ok(places.includes(self))
})

t.test('a named port is a target of its own, with the identity of its service', async (t) => {
  const view = snapshotOf([
    { service: 'orders', host: 'beta', ports: { http: 8080, admin: [9090, 'tcp'] } },
    { service: 'orders', host: 'gamma', ports: { http: 8080 } },
    { service: 'orders', host: 'self', ports: { admin: [9091, 'tcp'] } },
  ])
  const { table, find } = makeTable(view)
  const target = must(parseTarget('admin.orders'))
  const admin = table.find(targetName(target.service, target.portName))
  t.equal(admin?.id, find('orders').id)
  t.equal(admin?.view.protocol, 'tcp')
  t.same(
    admin?.picker.endpoints.map(({ portName, instance, place }) => [
      portName,
      instance.host,
      instance.port,
      place.kind === 'local' ? place.instance.port : 'far',
    ]),
    [
      ['admin', 'beta', 9090, 'far'],
      ['admin', 'self', 9091, 9091],
    ],
  )
  t.same(
    [...(find('orders').byPort?.keys() ?? [])].sort((a, b) => a - b),
    [8080, 9090, 9091],
  )
  t.equal(find('orders').picker.endpoints.length, 3)
  t.equal(table.find('other.orders' as typeof target.service), null)
})

t.test(
  'what this host says is outside is nobody’s in the mesh, and lives through changes',
  async (t) => {
    const inside = snapshotOf([{ service: 'api', host: 'beta' }])
    const outside = (...addresses: readonly string[]) => ({
      ...inside,
      external: [externalOf('api', addresses)],
    })
    const { table, find, endpoints } = makeTable(inside, outside('203.0.113.5', '203.0.113.6'))
    t.equal(find('api').id, 'spiffe://mesh.internal/external/api')
    t.same(
      endpoints('api').map(({ place }) => place.kind === 'external' && place.endpoint.address),
      ['203.0.113.5', '203.0.113.6'],
    )
    const [first, second] = endpoints('api')
    second?.upstreamFor(caller)
    const upstream = second?.upstreamFor(caller) as FakeUpstream
    table.apply(outside('203.0.113.5', '203.0.113.7'))
    t.equal(endpoints('api')[0], first, 'an address that stays keeps its luck')
    t.ok(upstream.isClosed, 'and one that is gone its idle channels no longer')
    table.apply({ ...outside('203.0.113.5'), external: [] })
    t.equal(find('api').id, 'spiffe://mesh.internal/service/api', 'the name is the mesh’s again')
  },
)
