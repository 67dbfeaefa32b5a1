/** Holds the calls that wait for a service to their bounds, with a clock that the test turns. */

import t from 'tap'
import { Lookups, type Found } from '#agent/outbound/lookups.ts'
import { must, parseServiceName, type ServiceName } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const service = (name: string): ServiceName => must(parseServiceName(name))
const [orders, carts, mail] = [service('orders'), service('carts'), service('mail')]

/** As far as lookups read it. */
function snapshotOf(names: readonly string[], onDemand = true): Snapshot {
  const services = Object.fromEntries(names.map((name) => [name, { name }]))
  return { services, onDemand } as unknown as Snapshot
}

function makeLookups(settings: { readonly isAway?: boolean } = {}) {
  const clock = new FakeClock()
  const asked: string[] = []
  const heard: [string, Found][] = []
  const lookups = new Lookups(
    {
      clock,
      ask: (name) => {
        asked.push(name)
        return settings.isAway !== true
      },
    },
    { waitMs: 100, mostNames: 2, mostCalls: 3 },
  )
  lookups.apply(snapshotOf([]))
  const look = (name: ServiceName): void =>
    lookups.look(name, (found) => void heard.push([name, found]))
  return { lookups, clock, asked, heard, look }
}

t.test('a name is asked for once, and a snapshot that has it ends every wait', async (t) => {
  const { lookups, asked, heard, look } = makeLookups()
  look(orders)
  look(orders)
  lookups.apply(snapshotOf(['carts']))
  t.same([asked, heard, lookups.waiting], [['orders'], [], 2])
  lookups.apply(snapshotOf(['carts', 'orders']))
  t.same(heard, [
    ['orders', 'found'],
    ['orders', 'found'],
  ])
  t.equal(lookups.waiting, 0)
})

t.test('what is not found, or not in time, is told apart', async (t) => {
  const { lookups, clock, heard, look } = makeLookups()
  look(orders)
  lookups.missed(orders, 'unknown')
  look(carts)
  await clock.advance(100)
  look(mail)
  lookups.apply(snapshotOf([], false))
  t.same(heard, [
    ['orders', 'unknown'],
    ['carts', 'away'],
    ['mail', 'unknown'],
  ])
  t.notOk(lookups.isOnDemand, 'a whole snapshot has all there are')
  t.equal(clock.pending, 0)
})

t.test(
  'names and calls are bounded, and nobody is answered before look has returned',
  async (t) => {
    const { heard, look } = makeLookups()
    look(orders)
    look(carts)
    look(mail)
    look(orders)
    look(orders)
    t.same(heard, [])
    await Promise.resolve()
    t.same(heard, [
      ['mail', 'overloaded'],
      ['orders', 'overloaded'],
    ])
  },
)

t.test('without a control process nobody waits', async (t) => {
  const { heard, look, clock } = makeLookups({ isAway: true })
  look(orders)
  await Promise.resolve()
  t.same(heard, [['orders', 'away']])
  t.equal(clock.pending, 0)
})
