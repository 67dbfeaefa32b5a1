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
