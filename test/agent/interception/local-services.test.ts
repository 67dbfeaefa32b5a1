import t from 'tap'
import { LocalServices } from '#agent/interception/local-services.ts'
import type { ListeningSocket } from '#agent/kernel/sockets.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { manifestOf } from '#test/support/manifests.ts'
import { silentLogger } from '#test/support/silent-logger.ts'
import { until } from '#test/support/until.ts'

const listening = (port: number, user: number): ListeningSocket => ({
  address: '127.0.0.1',
  port,
  user,
})

function made(t: { teardown(run: () => Promise<void>): unknown }) {
  const world = { sockets: [] as ListeningSocket[], users: new Map([['shop', 1001]]) }
  const services = new LocalServices(
    {
      clock: systemClock,
      logger: silentLogger,
      sockets: { listening: () => world.sockets },
      userNumber: async (name) => world.users.get(name) ?? null,
    },
    { agentUser: 900, lookMs: 5 },
  )
  t.teardown(() => services.stop())
  const become = (...wanted: readonly (number | null)[]) =>
    until(
      'users',
      () =>
        services.isReady &&
        JSON.stringify(services.services.map(({ user }) => user)) === JSON.stringify(wanted),
    )
  return { world, services, become }
}

t.test(
  'without a named user the owner of the socket is the service, once it listens',
  async (t) => {
    const { world, services, become } = made(t)
    services.setManifests([manifestOf({ port: 8080 })])
    await become(null)
    t.match(services.services, [{ problem: 'it does not listen yet' }])
    world.sockets = [listening(8080, 1001)]
    await become(1001)
    world.sockets = [listening(8080, 1002)]
    await until('the thief is noticed', () => services.services[0]?.problem !== '')
    t.match(services.services, [{ user: 1001, problem: /user 1002 listens at port 8080/ }])
    services.setManifests([manifestOf({ port: 8081 })])
    world.sockets = [listening(8081, 1002)]
    await become(1002)
  },
)

t.test('root and the agent are nobody, and one user is one service', async (t) => {
  const { world, services, become } = made(t)
  world.sockets = [listening(1, 0), listening(2, 900), listening(3, 1001), listening(4, 1002)]
  services.setManifests([
    manifestOf({ port: 1 }, 'a'),
    manifestOf({ port: 2 }, 'b'),
    manifestOf({ port: 3 }, 'c'),
    manifestOf({ port: 4 }, 'd'),
    manifestOf({ port: 5, run: { user: 'shop' } }, 'e'),
    manifestOf({ port: 6, run: { user: 'nobody-here' } }, 'f'),
  ])
  await become(null, null, null, 1002, 1001, null)
  t.match(
    services.services.map(({ problem }) => problem),
    [
      /belongs to root/,
      /agent’s own/,
      /user 1001 is known as e already/,
      '',
      '',
      /no user nobody-here/,
    ],
  )
  world.users.set('nobody-here', 1003)
  await become(null, null, null, 1002, 1001, 1003)
})

t.test('who names callers is locked, unless the lock is off', async (t) => {
  const { world, services } = made(t)
  world.sockets = [listening(1, 1001), listening(2, 1002)]
  services.setManifests([
    manifestOf({ port: 1 }, 'a'),
    manifestOf({ port: 2, inbound: 'off' }, 'b'),
  ])
  services.setGuarded(new Set(['a', 'b'].map((text) => must(parseServiceName(text)))))
  await until('a is locked', () => services.services[0]?.inbound === 'strict')
  t.equal(services.services[1]?.inbound, 'off')
})

t.test('who is known as before is the same object, whoever comes beside him', async (t) => {
  const { world, services, become } = made(t)
  world.sockets = [listening(1, 1001), listening(2, 1002)]
  const [a, b, c] = ['a', 'b', 'c'].map((name, index) => manifestOf({ port: index + 1 }, name))
  if (a === undefined || b === undefined || c === undefined) throw new Error('there are three')
  services.setManifests([a, b])
  await become(1001, 1002)
  const before = services.services
  services.setManifests([a, b, c])
  await become(1001, 1002, null)
  t.equal(services.services[0], before[0])
  t.equal(services.services[1], before[1])
  services.setManifests([a, manifestOf({ port: 2, weight: 5 }, 'b'), c])
  services.setManifests([a, manifestOf({ port: 2, inbound: 'strict' }, 'b'), c])
  await until('b is locked', () => services.services[1]?.inbound === 'strict')
  t.equal(services.services[0], before[0])
  services.setManifests([a])
  await become(1001)
  services.setManifests([a, b])
  await become(1001, 1002)
})

t.test('a local user’s port is another’s while that one listens at any of his ports', async (t) => {
  const { world, services } = made(t)
  world.users.set('root', 0)
  const told: string[] = []
  services.owners.onChange((changed) => told.push([...changed].join()))
  const shop = manifestOf({ ports: { http: 1, admin: 2 } }, 'shop', { owner: 'shop' })
  const isOthers = () => services.owners.isOthers(shop)
  const becomes = (what: boolean) => until(`it is ${what}`, () => isOthers() === what)
  t.equal(services.owners.isOthers(manifestOf({ port: 1 })), false, 'the administrator’s')
  t.equal(isOthers(), null, 'nobody has looked')
  world.sockets = [listening(1, 1001), listening(2, 1002)]
  services.setManifests([shop])
  await services.looked()
  t.equal(isOthers(), true)
  t.strictSame(told, ['shop'])
  world.sockets = [listening(1, 1001)]
  await becomes(false)
  t.equal(services.services[0]?.holdsPort, false, 'a port that nobody listens at is not locked')
  world.sockets = []
  services.setManifests([manifestOf({ port: 1, run: { user: 'shop' } }, 'shop', { owner: 'shop' })])
  t.equal(isOthers(), false, 'as it was seen last')
  t.equal(services.owners.isOthers(manifestOf({ port: 3 }, 'shop', { owner: 'shop' })), null)
  await services.looked()
  services.setManifests([shop])
  world.sockets = [listening(1, 1001), listening(2, 1001)]
  await until('all is his', () => services.services[0]?.holdsPort === true)
  // Nothing is left to find out, and still it is looked.
  world.sockets = [{ address: '0.0.0.0', port: 1, user: 1002 }, listening(2, 1001)]
  await becomes(true)
  const own = manifestOf({ port: 5 }, 'root', { owner: 'root' })
  world.sockets = [listening(5, 0)]
  services.setManifests([own])
  await services.looked()
  t.equal(services.owners.isOthers(own), false, 'root’s own directory, though root is no identity')
})

t.test('it is not known who listens while the number of a user could not be asked', async (t) => {
  const { world, services } = made(t)
  world.users.clear()
  world.sockets = [listening(1, 1001)]
  const shop = manifestOf({ port: 1 }, 'shop', { owner: 'shop' })
  services.setManifests([shop])
  await services.looked()
  t.equal(services.owners.isOthers(shop), null)
  world.users.set('shop', 1001)
  await until('it is known', () => services.owners.isOthers(shop) === false)
})

t.test('whoever says his own user’s name is looked at all the same', async (t) => {
  const { world, services } = made(t)
  const said = { port: 1, run: { user: 'shop' } }
  const shop = manifestOf(said, 'shop', { owner: 'shop' })
  world.sockets = [listening(1, 1001)]
  services.setManifests([shop])
  await until('it is his', () => services.services[0]?.holdsPort === true)
  world.sockets = [listening(1, 1002)]
  await until('it is no more', () => services.owners.isOthers(shop) === true)
})

t.test(
  'of a user with two services, neither has a port locked that nobody listens at',
  async (t) => {
    const { services } = made(t)
    services.setManifests(
      ['a', 'b'].map((name, index) => manifestOf({ port: index + 1 }, name, { owner: 'shop' })),
    )
    await services.looked()
    t.match(services.services, [
      { service: 'a', holdsPort: false },
      { service: 'b', user: null, holdsPort: false },
    ])
  },
)
