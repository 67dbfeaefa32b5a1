import t from 'tap'
import { VanishingGuard } from '#agent/discovery/vanishing.ts'
import { entryOf, instanceOf, presenceOf } from '#test/support/mesh-records.ts'

const gone = (...hosts: readonly string[]) =>
  new Map(hosts.flatMap((host) => [entryOf(presenceOf(host)), entryOf(instanceOf('orders', host))]))

t.test('who said goodbye is dropped at once', async (t) => {
  const guard = new VanishingGuard()
  const removed = new Map([entryOf(instanceOf('orders', 'a', { state: 'left' }))])
  for (const isListing of [false, true]) {
    const { dropped, isStorm } = guard.vanish({ removed, isListing, hosts: 2 }, 0)
    t.strictSame(dropped, ['/mesh/v1/instances/orders/a/1'])
    t.equal(isStorm, false)
  }
  t.equal(guard.dueInMs(0), null)
})

t.test('a single host that fell silent is dropped after a moment', async (t) => {
  const guard = new VanishingGuard()
  const { dropped, isStorm } = guard.vanish({ removed: gone('a'), isListing: false, hosts: 2 }, 100)
  t.strictSame([dropped, isStorm], [[], false])
  t.equal(guard.dueInMs(100), 2000)
  t.strictSame(guard.expire(2099), [])
  t.equal(guard.expire(2100).length, 2)
  t.equal(guard.dueInMs(2100), null)
})

t.test(
  'half of the hosts or more at once are kept for long, also one after the other',
  async (t) => {
    const guard = new VanishingGuard()
    t.equal(guard.vanish({ removed: gone('a'), isListing: false, hosts: 4 }, 0).isStorm, false)
    t.equal(guard.vanish({ removed: gone('b'), isListing: false, hosts: 4 }, 1500).isStorm, true)
    t.strictSame(guard.expire(21_499), [])
    guard.returned('/mesh/v1/presence/a')
    t.strictSame([...guard.expire(21_500)].sort(), [
      '/mesh/v1/instances/orders/a/1',
      '/mesh/v1/instances/orders/b/1',
      '/mesh/v1/presence/b',
    ])
  },
)

t.test('a few of many hosts are no storm', async (t) => {
  const guard = new VanishingGuard()
  const { isStorm } = guard.vanish({ removed: gone('a', 'b'), isListing: false, hosts: 10 }, 0)
  t.equal(isStorm, false)
  t.equal(guard.expire(2000).length, 4)
})

t.test('what is missing after an absence is kept for long', async (t) => {
  const guard = new VanishingGuard()
  guard.vanish({ removed: gone('a'), isListing: true, hosts: 10 }, 0)
  t.strictSame(guard.expire(19_999), [])
  t.equal(guard.expire(20_000).length, 2)
})
