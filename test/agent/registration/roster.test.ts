import t from 'tap'
import { Roster } from '#agent/registration/roster.ts'
import { manifestOf } from '#test/support/manifests.ts'

const orders = manifestOf({ port: 8080, drainMs: 30_000 })
const summary = (roster: Roster, now: number): string => {
  const { present, local, changesInMs } = roster.at(now)
  const instances = local.map(
    (one) => `${one.service}:${one.port}${one.draining ? ' draining' : ''}`,
  )
  return `${present.length} [${instances.join(', ')}] ${changesInMs}`
}

t.test('instances of manifests in force are present and local; callers are neither', async (t) => {
  const roster = new Roster()
  roster.apply([orders, manifestOf({ upstreams: { users: 9001 } }, 'web')], 0)
  t.match(roster.at(0), {
    present: [orders],
    local: [{ service: 'orders', id: '1', port: 8080, address: '127.0.0.1', draining: false }],
    changesInMs: null,
  })
})

t.test('an instance whose manifest went serves on, then drains, then is gone', async (t) => {
  const roster = new Roster()
  roster.apply([orders], 0)
  roster.apply([], 1000)
  t.equal(summary(roster, 1000), '0 [orders:8080] 5000')
  t.equal(summary(roster, 5999), '0 [orders:8080] 1')
  t.equal(summary(roster, 6000), '0 [orders:8080 draining] 25000')
  t.equal(summary(roster, 30_999), '0 [orders:8080 draining] 1')
  t.equal(summary(roster, 31_000), '0 [] null')
})

t.test('a short drain time is kept to', async (t) => {
  const roster = new Roster()
  roster.apply([manifestOf({ port: 1, drainMs: 100 }), manifestOf({ port: 2, drainMs: 0 }, 'b')], 0)
  roster.apply([], 0)
  t.equal(summary(roster, 0), '0 [orders:1] 100')
  t.equal(summary(roster, 100), '0 [] null')
})

t.test('a manifest that comes back is in force at once; one that stays does not age', async (t) => {
  const roster = new Roster()
  roster.apply([orders], 0)
  roster.apply([], 1000)
  roster.apply([], 4000)
  t.equal(summary(roster, 4000), '0 [orders:8080] 2000', 'it left at 1000')
  roster.apply([orders], 7000)
  t.equal(summary(roster, 100_000), '1 [orders:8080] null')
})

t.test('a manifest that changes into a caller leaves like one that went', async (t) => {
  const roster = new Roster()
  roster.apply([orders], 0)
  roster.apply([manifestOf({ upstreams: { users: 9001 } })], 10)
  t.equal(summary(roster, 10), '0 [orders:8080] 5000')
})
