import t from 'tap'
import { VanishingGuard } from '#agent/discovery/vanishing.ts'
import { entryOf, instanceOf, presenceOf } from '#test/support/mesh-records.ts'

const gone = (...hosts: readonly string[]) =>
  new Map(hosts.flatMap((host) => [entryOf(presenceOf(host)), entryOf(instanceOf('orders', host))]))

const allSilent = (): boolean => true

t.test('who said goodbye is dropped at once', async (t) => {
  const guard = new VanishingGuard()
  const removed = new Map([entryOf(instanceOf('orders', 'a', { state: 'left' }))])
  for (const isLate of [false, true]) {
    const { dropped, isStorm } = guard.vanish({ removed, isLate, hosts: 2 }, 0)
    t.strictSame(dropped, ['/mesh/v1/instances/orders/a/1'])
    t.equal(isStorm, false)
  }
  t.equal(guard.dueInMs(0), null)
})

t.test('a single host that fell silent is dropped after a moment', async (t) => {
  const guard = new VanishingGuard()
  const { dropped, isStorm } = guard.vanish({ removed: gone('a'), isLate: false, hosts: 2 }, 100)
  t.strictSame([dropped, isStorm], [[], false])
  t.equal(guard.dueInMs(100), 2000)
  t.strictSame(guard.expire(2099, allSilent), [])
  t.equal(guard.expire(2100, allSilent).length, 2)
  t.equal(guard.dueInMs(2100), null)
})

t.test(
  'half of the hosts or more at once are kept for long, also one after the other',
  async (t) => {
    const guard = new VanishingGuard()
    t.equal(guard.vanish({ removed: gone('a'), isLate: false, hosts: 4 }, 0).isStorm, false)
    t.equal(guard.vanish({ removed: gone('b'), isLate: false, hosts: 4 }, 1500).isStorm, true)
    t.strictSame(guard.expire(21_499, allSilent), [])
    guard.returned('/mesh/v1/presence/a')
    t.strictSame([...guard.expire(21_500, allSilent)].sort(), [
      '/mesh/v1/instances/orders/a/1',
      '/mesh/v1/instances/orders/b/1',
      '/mesh/v1/presence/b',
    ])
  },
)

t.test('a few of many hosts are no storm', async (t) => {
  const guard = new VanishingGuard()
  const { isStorm } = guard.vanish({ removed: gone('a', 'b'), isLate: false, hosts: 10 }, 0)
  t.equal(isStorm, false)
  t.equal(guard.expire(2000, allSilent).length, 4)
})

t.test('what is missing after an absence is kept for long', async (t) => {
  const guard = new VanishingGuard()
  guard.vanish({ removed: gone('a'), isLate: true, hosts: 10 }, 0)
  t.strictSame(guard.expire(19_999, allSilent), [])
  t.equal(guard.expire(20_000, allSilent).length, 2)
})

t.test('a host that vanished whole is kept for as long as it answers', (t) => {
  const guard = new VanishingGuard()
  guard.vanish({ removed: gone('a', 'b'), isLate: false, hosts: 10 }, 0)
  t.strictSame([...guard.lostHosts].sort(), ['a', 'b'])
  const expired = guard.expire(2000, (host) => host === 'a')
  t.strictSame([...expired].sort(), ['/mesh/v1/instances/orders/a/1', '/mesh/v1/presence/a'])
  t.strictSame([...guard.lostHosts], ['b'])
  t.strictSame(
    guard.expire(200_000, () => false),
    [],
  )
  t.equal(guard.expire(200_500, allSilent).length, 2)
  t.equal(guard.dueInMs(200_500), null)
  t.end()
})

t.test('what a host that is there has lost is no question to it', (t) => {
  const guard = new VanishingGuard()
  const removed = new Map([entryOf(instanceOf('orders', 'a'))])
  guard.vanish({ removed, isLate: false, hosts: 3 }, 0)
  t.equal(guard.lostHosts.size, 0)
  t.equal(guard.expire(2000, () => false).length, 1)
  t.end()
})

t.test('records that nobody calls are not kept', (t) => {
  const guard = new VanishingGuard()
  const removed = new Map([
    ['/mesh/v1/hosts/a', '{}'],
    ['/mesh/v1/trust/bans', '{}'],
    ['/mesh/v1/controllers/c', '{}'],
  ])
  t.strictSame(guard.vanish({ removed, isLate: true, hosts: 1 }, 0), {
    dropped: [],
    isStorm: false,
  })
  t.equal(guard.dueInMs(0), null)
  t.end()
})
