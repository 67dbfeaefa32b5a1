import t from 'tap'
import { Roster } from '#agent/registration/roster.ts'
import { manifestOf } from '#test/support/manifests.ts'

const orders = manifestOf({ port: 8080, drainMs: 30_000 })
const summary = (roster: Roster, now: number): string => {
  const { local, changesInMs } = roster.at(now)
  const instances = local.map(
    (one) => `${one.service}:${one.port}${one.draining ? ' draining' : ''}`,
  )
  return `[${instances.join(', ')}] ${changesInMs}`
}

t.test('instances of manifests in force are present and local; callers are neither', async (t) => {
  const roster = new Roster()
  for (const one of [orders, manifestOf({ upstreams: { users: 9001 } }, 'web')]) roster.take(one, 0)
  t.match(roster.at(0), {
    local: [{ service: 'orders', id: '1', port: 8080, address: '127.0.0.1', draining: false }],
    changesInMs: null,
  })
})

t.test('an instance whose manifest went serves on, then drains, then is gone', async (t) => {
  const roster = new Roster()
  roster.take(orders, 0)
  roster.leave(orders.service, 1000)
  t.equal(summary(roster, 1000), '[orders:8080] 5000')
  t.equal(summary(roster, 5999), '[orders:8080] 1')
  t.equal(summary(roster, 6000), '[orders:8080 draining] 25000')
  t.equal(summary(roster, 30_999), '[orders:8080 draining] 1')
  t.equal(summary(roster, 31_000), '[] null')
})

t.test('a short drain time is kept to', async (t) => {
  const roster = new Roster()
  const some = [manifestOf({ port: 1, drainMs: 100 }), manifestOf({ port: 2, drainMs: 0 }, 'b')]
  for (const one of some) roster.take(one, 0)
  for (const { service } of some) roster.leave(service, 0)
  t.equal(summary(roster, 0), '[orders:1] 100')
  t.equal(summary(roster, 100), '[] null')
})

t.test('a manifest that comes back is in force at once; one that stays does not age', async (t) => {
  const roster = new Roster()
  roster.take(orders, 0)
  roster.leave(orders.service, 1000)
  roster.leave(orders.service, 4000)
  t.equal(summary(roster, 4000), '[orders:8080] 2000', 'it left at 1000')
  roster.take(orders, 7000)
  t.equal(summary(roster, 100_000), '[orders:8080] null')
})

t.test('a manifest that changes into a caller leaves like one that went', async (t) => {
  const roster = new Roster()
  roster.take(orders, 0)
  roster.take(manifestOf({ upstreams: { users: 9001 } }), 10)
  t.equal(summary(roster, 10), '[orders:8080] 5000')
})
