import t from 'tap'
import { InstanceLoads } from '#agent/balance/instance-loads.ts'
import { LocalInstances, type ReachableInstance } from '#agent/inbound/local-instances.ts'
import { ChannelPool } from '#agent/tunnel/channel-pool.ts'
import { must, parseHostName, parseServiceName } from '#shared/model/names.ts'
import { hostId, serviceId } from '#shared/model/spiffe-id.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { self, snapshotOf, trustDomain, type InstanceWish } from '#test/support/snapshots.ts'

const alice = hostId(trustDomain, must(parseHostName('alice')))
const bob = serviceId(trustDomain, must(parseServiceName('bob')))
const here: InstanceWish = { service: 'orders', host: self, port: 8080 }

function makeInstances(...wishes: readonly InstanceWish[]) {
  const clock = new FakeClock()
  const dialled: string[] = []
  let pools = 0
  const policies = new PolicyTable()
  policies.apply(snapshotOf([]))
  const instances = new LocalInstances({
    loads: new InstanceLoads({ shareOf: (limit) => limit }),
    local: {
      dial: (address: string, port: number) => void dialled.push(`${address}:${port}`),
    },
    makePool: () => {
      pools++
      return new ChannelPool({ clock })
    },
    policies,
  })
  instances.apply(snapshotOf(wishes))
  const orders = (): ReachableInstance => {
    const found = instances.find('orders', '1')
    if (found === null) throw new Error('no orders')
    return found
  }
  return { instances, dialled, orders, pools: () => pools }
}

t.test('LocalInstances shares no connection between two peers', async (t) => {
  const { orders } = makeInstances(here)
  const channel = new FakeChannel()
  orders().upstreamFor(alice).release(channel)
  t.equal(orders().upstreamFor(bob).takeIdle(), null)
  t.equal(orders().upstreamFor(alice).takeIdle(), channel)
})

t.test('LocalInstances forgets peers that keep no channel once there are many', async (t) => {
  const { orders, pools } = makeInstances(here)
  const channel = new FakeChannel()
  orders().upstreamFor(alice).release(channel)
  const busy = orders().upstreamFor(bob)
  t.equal(orders().upstreamFor(bob, busy), busy)
  const others = Array.from({ length: 300 }, (_, i) =>
    serviceId(trustDomain, must(parseServiceName(`s${i}`))),
  )
  for (const other of others) orders().upstreamFor(other)
  t.equal(pools(), 302)
  t.not(orders().upstreamFor(bob, busy), busy)
  t.equal(pools(), 303, 'his was forgotten')
  const late = new FakeChannel()
  busy.release(late)
  t.ok(late.ended, 'and keeps nothing that nobody would find')
  t.equal(orders().upstreamFor(alice).takeIdle(), channel)
})

t.test('LocalInstances keeps an instance and its channels through snapshots', async (t) => {
  const { instances, orders } = makeInstances(here)
  const known = orders()
  const channel = new FakeChannel()
  known.upstreamFor(alice).release(channel)
  instances.apply(snapshotOf([here, { service: 'files', host: self }]))
  instances.apply(snapshotOf([{ ...here, draining: true }]))
  t.equal(orders(), known)
  t.equal(known.view.draining, true)
  t.equal(known.upstreamFor(alice).takeIdle(), channel)
})

t.test('LocalInstances goes where an instance has moved, with new channels', async (t) => {
  const { instances, dialled, orders } = makeInstances(here)
  const known = orders()
  const channel = new FakeChannel()
  known.upstreamFor(alice).release(channel)
  instances.apply(snapshotOf([{ ...here, address: '127.0.0.9', port: 9090 }]))
  t.equal(orders(), known)
  t.ok(channel.ended, 'the idle channel to the old place is closed')
  t.equal(known.upstreamFor(alice).takeIdle(), null)
  known.upstreamFor(alice).open({ onOpen() {}, onOpenFailed() {} })
  t.same(dialled, ['127.0.0.9:9090'])
})

t.test(
  'LocalInstances closes what is idle when an instance goes, and says it is gone',
  async (t) => {
    const { instances, orders } = makeInstances(here)
    const known = orders()
    const [idle, busy] = [new FakeChannel(), new FakeChannel()]
    const upstream = known.upstreamFor(alice)
    upstream.release(busy)
    t.equal(upstream.takeIdle(), busy)
    upstream.release(idle)
    instances.apply(snapshotOf([]))
    t.ok(idle.ended)
    t.notOk(busy.ended, 'what is in use may finish')
    t.ok(known.gone)
    t.equal(instances.find('orders', '1'), null)
    upstream.release(busy)
    t.ok(busy.ended, 'and is not kept')
    for (const id of ['2', 'constructor', '']) t.equal(instances.find('orders', id), null)
  },
)
