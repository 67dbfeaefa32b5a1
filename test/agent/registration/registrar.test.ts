import t from 'tap'
import type { Fitness } from '#agent/registration/publication.ts'
import { Registrar, type LocalOffer, type RegistrarParts } from '#agent/registration/registrar.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import { must, parseHostName, parsePort } from '#shared/model/names.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { manifestOf } from '#test/support/manifests.ts'

const orders = manifestOf({ port: 8080 })
const tunnelPort = must(parsePort(15008))

/** Timers of a real machine come up to a millisecond before its clock says so. */
class EarlyClock extends FakeClock {
  override after(ms: number, run: () => void): Timer {
    return super.after(Math.max(0.1, ms - 0.9), run)
  }
}

function registering(
  more: Partial<Pick<RegistrarParts, 'carried' | 'fitnessOf'>> = {},
  clock = new FakeClock(),
) {
  const { logger, lines } = logLines()
  const published: (readonly string[])[] = []
  const farewells: ReadonlyMap<string, string>[] = []
  const offers: LocalOffer[] = []
  const world: { fitness: Fitness; withdrawn: boolean } = {
    fitness: { healthy: true, certified: true },
    withdrawn: false,
  }
  const registrar = new Registrar(
    {
      clock,
      logger,
      publish: (desired, last) => {
        published.push([...desired.keys()].map((key) => key.replace('/mesh/v1/', '')).sort())
        farewells.push(last)
      },
      fitnessOf: () => world.fitness,
      isWithdrawn: () => world.withdrawn,
      ...more,
    },
    { host: must(parseHostName('a')), address: '10.0.0.1', zone: '', version: '0.1.0' },
  )
  registrar.onChange((offer) => offers.push(offer))
  const events = (): unknown[] => lines.map((line) => line['msg'])
  return { clock, published, farewells, offers, world, registrar, events }
}

t.test('an instance is offered once it is healthy, certified and reachable', async (t) => {
  const { published, offers, world, registrar, events } = registering()
  world.fitness = { healthy: false, certified: false }
  registrar.setManifests([orders])
  registrar.setTunnelPort(tunnelPort)
  t.strictSame(published.at(-1), ['presence/a'])
  t.equal(registrar.withheld(orders.service), 'no-certificate')
  world.fitness = { healthy: true, certified: true }
  registrar.refresh()
  t.strictSame(published.at(-1), ['instances/orders/a/1', 'presence/a'])
  t.equal(registrar.withheld(orders.service), null)
  t.match(offers.at(-1), {
    presence: { host: 'a', tunnelPort: 15008 },
    offered: [{ service: 'orders' }],
    local: [{ service: 'orders', draining: false }],
  })
  t.strictSame(events(), ['instance: withheld -> offered'])
})

t.test(
  'what another user listens at is neither offered nor served, not for a moment',
  async (t) => {
    const { offers, world, registrar } = registering()
    registrar.setTunnelPort(tunnelPort)
    registrar.setManifests([orders])
    t.match(offers.at(-1), { offered: [{ service: 'orders' }], local: [{ service: 'orders' }] })
    world.fitness = { healthy: true, certified: true, isOthers: true }
    registrar.refresh()
    t.match(offers.at(-1), { offered: [], local: [] })
    t.equal(offers.at(-1)?.local.length, 0)
    t.equal(registrar.withheld(orders.service), 'others-port')
    world.fitness = { healthy: true, certified: true, isOthers: false }
    registrar.refresh()
    t.match(offers.at(-1), { offered: [{ service: 'orders' }], local: [{ service: 'orders' }] })
  },
)

t.test('what waited for a worker is offered once there is one, and that is told', async (t) => {
  const { offers, registrar, events } = registering()
  registrar.setManifests([orders])
  t.equal(registrar.withheld(orders.service), 'no-tunnel')
  t.same(events(), [])
  registrar.setTunnelPort(tunnelPort)
  t.equal(registrar.withheld(orders.service), null)
  t.match(offers.at(-1)?.offered, [{ service: 'orders' }])
  t.same(events(), ['instance: withheld -> offered'])
})

t.test('nothing is said twice', async (t) => {
  const { published, offers, registrar } = registering()
  registrar.setTunnelPort(tunnelPort)
  registrar.setManifests([orders])
  const [said, told] = [published.length, offers.length]
  registrar.refresh()
  registrar.setManifests([manifestOf({ port: 8080 })])
  t.equal(published.length, said)
  t.equal(offers.length, told)
})

t.test('an instance that falls ill is withdrawn but can still be reached', async (t) => {
  const { published, farewells, offers, world, registrar, events } = registering()
  registrar.setTunnelPort(tunnelPort)
  registrar.setManifests([orders])
  world.fitness = { healthy: false, certified: true }
  registrar.refresh()
  t.strictSame(published.at(-1), ['presence/a'])
  t.match(farewells.at(-2)?.get('/mesh/v1/instances/orders/a/1'), /"state":"left"/)
  t.match(offers.at(-1), { offered: [], local: [{ service: 'orders', draining: false }] })
  t.strictSame(events().at(-1), 'instance: offered -> withheld')
})

t.test('a removed manifest is withdrawn at once and drains by itself', async (t) => {
  const { clock, published, offers, registrar } = registering()
  registrar.setTunnelPort(tunnelPort)
  registrar.setManifests([orders])
  registrar.setManifests([])
  t.strictSame(published.at(-1), ['presence/a'])
  t.match(offers.at(-1), { offered: [], local: [{ draining: false }] })
  await clock.advance(5000)
  t.match(offers.at(-1), { local: [{ draining: true }] })
  await clock.advance(25_000)
  t.strictSame(offers.at(-1)?.local, [])
  t.equal(clock.pending, 0)
})

t.test('an instance drains also where timers come early', async (t) => {
  const { clock, offers, registrar } = registering({}, new EarlyClock())
  registrar.setTunnelPort(tunnelPort)
  registrar.setManifests([orders])
  await clock.advance(0.7)
  registrar.setManifests([])
  await clock.advance(5001)
  t.match(offers.at(-1), { local: [{ draining: true }] })
  await clock.advance(25_001)
  t.strictSame(offers.at(-1)?.local, [])
  t.equal(clock.pending, 0)
})

t.test('a withdrawn service leaves like a removed one, and comes back', async (t) => {
  const { clock, published, offers, world, registrar, events } = registering()
  registrar.setTunnelPort(tunnelPort)
  registrar.setManifests([orders])
  t.equal(registrar.rotation(orders.service), 'in')
  world.withdrawn = true
  registrar.refresh()
  t.strictSame(published.at(-1), ['presence/a'])
  t.match(offers.at(-1), { offered: [], local: [{ draining: false }] })
  t.equal(registrar.rotation(orders.service), 'leaving')
  t.equal(registrar.withheld(orders.service), 'drained')
  await clock.advance(5000)
  t.match(offers.at(-1), { local: [{ draining: true }] })
  await clock.advance(25_000)
  t.strictSame(offers.at(-1)?.local, [])
  t.equal(registrar.rotation(orders.service), 'out')
  registrar.setManifests([manifestOf({ port: 8080, weight: 5 })])
  t.strictSame(offers.at(-1)?.local, [], 'a change of its file brings nothing back')
  world.withdrawn = false
  registrar.refresh()
  t.match(offers.at(-1), { offered: [{ weight: 5 }], local: [{ draining: false }] })
  t.equal(registrar.rotation(orders.service), 'in')
  t.strictSame(events(), [
    'instance: withheld -> offered',
    'instance: offered -> withheld',
    'instance: withheld -> offered',
  ])
})

t.test('facts of the machine stand in the presence once they are known', async (t) => {
  const { offers, registrar } = registering()
  registrar.setTunnelPort(tunnelPort)
  t.notOk(offers.at(-1)?.presence?.facts)
  registrar.setFacts({ kernel: '6.18' })
  t.match(offers.at(-1)?.presence, { facts: { kernel: '6.18' } })
})

t.test('stop changes nothing any more', async (t) => {
  const { clock, published, registrar } = registering()
  registrar.setTunnelPort(tunnelPort)
  registrar.setManifests([orders])
  registrar.setManifests([])
  const said = published.length
  registrar.stop()
  registrar.setManifests([orders])
  t.equal(published.length, said)
  t.equal(clock.pending, 0)
})

t.test(
  'how long a service keeps idle connections is known to those who dial it here',
  async (t) => {
    const { offers, world, registrar } = registering()
    world.fitness = { ...world.fitness, finding: { speech: 'http/1.1', keepAliveMs: 5000 } }
    registrar.setManifests([orders])
    registrar.setTunnelPort(tunnelPort)
    t.match(offers.at(-1)?.local, [{ service: 'orders', keepAliveMs: 5000 }])
  },
)

t.test('an instance that leaves is gone as soon as nothing is open to it', async (t) => {
  const carried = new Map([['orders', 1]])
  const { clock, offers, registrar, events } = registering({ carried: async () => carried })
  registrar.setTunnelPort(tunnelPort)
  registrar.setManifests([orders])
  t.equal(registrar.openTo(orders.service), null)
  registrar.setManifests([])
  await clock.advance(10_000)
  t.match(offers.at(-1), { local: [{ draining: true }] })
  t.equal(registrar.openTo(orders.service), 1)
  carried.set('orders', 0)
  await clock.advance(400)
  t.strictSame(offers.at(-1)?.local, [])
  t.equal(registrar.openTo(orders.service), null)
  t.match(events().at(-1), /leaving -> gone/)
  t.equal(clock.pending, 0)
})

t.test('of a thousand services only those that may have changed are asked', async (t) => {
  const names = Array.from({ length: 1000 }, (_, n) => `s${n}`)
  const manifests = names.map((name, n) => manifestOf({ port: 1000 + n }, name))
  const [first, second] = manifests
  if (first === undefined || second === undefined) throw new Error('there are a thousand')
  const asked: string[] = []
  const ill = new Set<string>()
  const { clock, published, offers, registrar } = registering({
    fitnessOf: ({ service }) => {
      asked.push(service)
      return { healthy: !ill.has(service), certified: true }
    },
  })
  registrar.setTunnelPort(tunnelPort)
  registrar.setManifests(manifests)
  t.equal(asked.length, 1000)
  t.equal(published.at(-1)?.length, 1001)
  const before = new Set(offers.at(-1)?.offered)
  const askedBy = (work: () => void): readonly string[] => {
    asked.length = 0
    work()
    return [...asked]
  }
  const changed = manifestOf({ port: 1000, weight: 7 }, 's0')
  t.same(
    askedBy(() => registrar.setManifests([changed, ...manifests.slice(1)])),
    ['s0'],
  )
  t.equal(new Set(offers.at(-1)?.offered).difference(before).size, 1, 'and one record is another')
  ill.add('s1')
  t.same(
    askedBy(() => registrar.refresh(new Set([second.service]))),
    ['s1'],
  )
  t.equal(registrar.withheld(second.service), 'not-healthy')
  t.equal(published.at(-1)?.length, 1000)
  t.same(
    askedBy(() => registrar.setManifests(manifests.slice(1))),
    [],
    'nobody is asked for one that has gone',
  )
  t.equal(offers.at(-1)?.local.length, 1000, 'it is leaving')
  t.equal(offers.at(-1)?.offered.length, 998)
  asked.length = 0
  await clock.advance(5000)
  t.equal(offers.at(-1)?.local.filter(({ draining }) => draining).length, 1)
  t.equal(asked.length, 999, 'now and then all are')
})
