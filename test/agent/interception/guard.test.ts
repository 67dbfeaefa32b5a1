import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { nothing, type CaptureState } from '#agent/interception/capture-state.ts'
import { kernelCommands, type KernelCommands } from '#agent/interception/commands.ts'
import {
  CaptureGuard,
  type CaptureGuardParts,
  type CaptureGuardSettings,
} from '#agent/interception/guard.ts'
import { KernelSockets } from '#agent/kernel/sockets.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { tableIn } from '#test/support/kernel-table.ts'
import {
  joinNamespaces,
  makeNamespace,
  networkState,
  type Namespace,
} from '#test/support/namespace.ts'
import { lacks } from '#test/support/needs.ts'
import { silentLogger } from '#test/support/silent-logger.ts'
import { until } from '#test/support/until.ts'

const skip = lacks('netns', 'nft')
const owner = '/run/mesh/agent'

// Timers of the clock keep no process alive.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const state: CaptureState = {
  ...nothing,
  unknownPort: 17000,
  callers: [{ kind: 'user', user: 1001, port: 17001 }],
  destinations: [
    { address: '240.240.0.1', port: 80, virtual: '240.240.0.1', denied: false },
    { address: '10.0.0.5', port: 80, virtual: '240.240.0.1', denied: false },
    { address: '10.0.0.6', port: 80, virtual: '240.240.0.2', denied: true },
  ],
}

function guardIn(
  namespace: Namespace,
  more: Partial<CaptureGuardParts & CaptureGuardSettings> = {},
): CaptureGuard {
  return new CaptureGuard(
    {
      clock: systemClock,
      logger: silentLogger,
      commands: kernelCommands(namespace.enter),
      sockets: new KernelSockets((file) => [namespace.run('cat', file)]),
      ...more,
    },
    { owner, firstPort: 17000, agentUser: 0, lookMs: 20, ...more },
  )
}

/** Listens and echoes in a namespace; ends with its standard input. */
function worker(namespace: Namespace, user = 0) {
  const program = `
    const server = require('node:net').createServer((s) => s.on('error', () => {}).pipe(s))
    server.listen(17000, () => console.log('open'))
    process.stdin.on('data', () => server.close()).on('end', () => process.exit())`
  const words = ['setpriv', `--reuid=${user}`, '--clear-groups', process.execPath, '-e', program]
  return spawn('nsenter', [...namespace.enter.slice(1), ...words], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
}

/** A connection of somebody in a namespace that stays open. */
async function hold(t: Test, namespace: Namespace, address: string) {
  const program = `const s = require('node:net').connect(80, '${address}', () => s.write('held'))
    s.on('data', (d) => console.log(String(d))).on('error', () => {})
    process.stdin.on('data', (d) => s.write(d))`
  const child = spawn('nsenter', [...namespace.enter.slice(1), process.execPath, '-e', program], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill())
  await once(child.stdout, 'data')
  return {
    say: async (word: string): Promise<string> => {
      child.stdin.write(word)
      const [echo] = (await once(child.stdout, 'data')) as [Buffer]
      return String(echo).trim()
    },
    end: async (): Promise<void> => {
      child.kill()
      await once(child, 'exit')
    },
  }
}

const destinations = (namespace: Namespace): string =>
  namespace.run('nft', 'list', 'map', 'inet', 'hostmesh', 'destinations4')

t.test(
  'while somebody takes connections the rules stay; then only denials do',
  { skip },
  async (t) => {
    const namespace = makeNamespace(t)
    const agent = worker(namespace)
    t.teardown(() => agent.kill())
    await once(agent.stdout, 'data')
    await tableIn(namespace).apply(state)
    const guard = guardIn(namespace)
    const ended = guard.run()
    const thief = worker(namespace, 1002)
    t.teardown(() => thief.kill())
    agent.stdin.end()
    await once(agent, 'exit')
    await until('capture is lifted', () => !destinations(namespace).includes('10.0.0.5'))
    t.match(destinations(namespace), '10.0.0.6 . 80 : 240.240.0.2')
    t.notMatch(destinations(namespace), '240.240.0.1')
    await guard.stop()
    t.equal(await ended, 0)
    await tableIn(namespace).apply(state)
    t.match(destinations(namespace), '10.0.0.5', 'the next agent captures again')
  },
)

t.test(
  'rules of nobody go when the last connection through them has ended',
  { skip },
  async (t) => {
    const namespace = makeNamespace(t)
    const before = networkState(namespace)
    const table = tableIn(namespace)
    const agent = worker(namespace)
    t.teardown(() => agent.kill())
    await once(agent.stdout, 'data')
    await table.apply(state)
    const held = await hold(t, namespace, '240.240.0.1')
    await table.apply(nothing)
    const guard = guardIn(namespace)
    const ended = guard.run()
    t.equal(await held.say('still here'), 'still here')
    await held.end()
    agent.stdin.end()
    await once(agent, 'exit')
    await guard.stop()
    t.equal(await ended, 0)
    t.equal(networkState(namespace), before, 'no trace is left')
  },
)

t.test('a guard that is replaced while connections are taken ends at once', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const agent = worker(namespace)
  t.teardown(() => agent.kill())
  await once(agent.stdout, 'data')
  await tableIn(namespace).apply(state)
  const guard = guardIn(namespace)
  const ended = guard.run()
  await guard.stop()
  t.equal(await ended, 0)
  t.match(destinations(namespace), '10.0.0.5', 'nothing was lifted')
})

t.test('a guard that may not look at the rules waits for nothing when it is stopped', async (t) => {
  const clock = new FakeClock({ epoch: 0 })
  const refuse = async (): Promise<never> => {
    throw new MeshError('nft: Operation not permitted', { code: 'command-failed' })
  }
  const monitor = () => ({ stop: () => {} })
  const commands = { nft: refuse, check: refuse, ask: refuse, ip: refuse, monitor }
  const guard = new CaptureGuard(
    { clock, logger: silentLogger, commands, sockets: new KernelSockets(() => []) },
    { owner, firstPort: 17000, agentUser: 0 },
  )
  const ended = guard.run()
  const stopped = guard.stop()
  await clock.advance(3000)
  await stopped
  t.equal(await ended, 0)
})

t.test('the rules of another agent are left alone', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const other = tableIn(namespace, { owner: '/run/other' })
  await other.apply(state)
  const guard = guardIn(namespace)
  const ended = guard.run()
  await guard.stop()
  await ended
  t.match(destinations(namespace), '10.0.0.5')
})

/** Says its name to whoever connects, on every address of a namespace. */
async function speaker(t: Test, namespace: Namespace, name: string, port: number): Promise<void> {
  const program = `require('node:net').createServer((s) => s.on('error', () => {}).end('${name}'))
    .listen(${port}, '::', () => console.log('open'))`
  const child = spawn('nsenter', [...namespace.enter.slice(1), process.execPath, '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
}

/** What a connection in a namespace is told, or why there is none. */
function heard(namespace: Namespace, address: string, port: number): string {
  const program = `require('node:net').connect(${port}, '${address}').setEncoding('utf8')
    .on('data', (d) => console.log(d)).on('error', (e) => console.log(e.code))`
  return namespace.run(process.execPath, '-e', program).trim()
}

t.test(
  'virtual IPs lead to instances in plain while nobody takes them, and on this host alone',
  { skip },
  async (t) => {
    const [here, there, beyond] = [
      makeNamespace(t, 'here'),
      makeNamespace(t, 'there'),
      makeNamespace(t, 'beyond'),
    ]
    joinNamespaces(here, there, '10.99.0.1/24', '10.99.0.2/24')
    // A second network, whose hosts know no way to the first.
    joinNamespaces(here, beyond, '10.98.0.1/24', '10.98.0.2/24', 'eth1')
    for (const [one, address, device] of [
      [here, 'fd99::1/64', 'eth0'],
      [there, 'fd99::2/64', 'eth0'],
      [here, 'fd98::1/64', 'eth1'],
      [beyond, 'fd98::2/64', 'eth0'],
    ] as const)
      one.run('ip', '-6', 'address', 'add', address, 'dev', device, 'nodad')
    await until('IPv6 has settled', () => !here.run('ip', '-6', 'address').includes('tentative'))
    await speaker(t, there, 'there', 8080)
    await speaker(t, beyond, 'beyond', 8080)
    await speaker(t, here, 'near', 8081)
    const before = networkState(here)
    const agent = worker(here)
    t.teardown(() => agent.kill())
    await once(agent.stdout, 'data')
    const places = [
      ['240.240.0.1', 80, '10.99.0.2', 8080],
      ['fd12:3456:789a::1', 80, 'fd99::2', 8080],
      ['240.240.0.4', 80, '10.98.0.2', 8080],
      ['fd12:3456:789a::4', 80, 'fd98::2', 8080],
      ['240.240.0.2', 80, '127.0.0.1', 8081],
      ['fd12:3456:789a::2', 80, '::1', 8081],
    ] as const
    const table = tableIn(here)
    const captured = {
      ...state,
      destinations: places.map(([address, port]) => ({
        address,
        port,
        virtual: address,
        denied: false,
      })),
      standIns: places.map(([address, port, to, at]) => ({
        address,
        port,
        to: [{ address: to, port: at }],
      })),
    }
    await table.apply(captured)
    t.match(here.run('ip', 'route', 'show', 'table', 'local', '240.240.0.0/16'), 'src 127.0.0.1')
    const guard = guardIn(here)
    const ended = guard.run()
    agent.stdin.end()
    await once(agent, 'exit')
    const route = (family: '-4' | '-6', range: string): string =>
      here.run('ip', family, 'route', 'show', 'table', 'local', range)
    const isOpen = (): boolean =>
      !route('-4', '240.240.0.0/16').includes('src') &&
      !route('-6', 'fd12:3456:789a::/48').includes('src')
    await until('they come from loopback no more', isOpen)
    const all = places.map(([address, port]) => heard(here, address, port))
    t.same(all, ['there', 'there', 'beyond', 'beyond', 'near', 'near'])
    t.equal(heard(here, '240.240.0.1', 22), 'ECONNREFUSED', 'and nothing else answers')
    t.equal(heard(here, '240.240.0.3', 80), 'ECONNREFUSED')
    const udp = `const s = require('node:dgram').createSocket('udp4').on('error', (e) => { console.log(e.code); s.close() })
      s.connect(80, '240.240.0.1', () => s.send('x'))`
    t.match(here.run(process.execPath, '-e', udp), 'ECONNREFUSED', 'UDP is refused as before')
    there.run('ip', 'route', 'add', '240.240.0.0/16', 'via', '10.99.0.1')
    t.equal(heard(there, '240.240.0.1', 80), 'ECONNREFUSED', 'a neighbour is led nowhere')

    const next = worker(here)
    t.teardown(() => next.kill())
    await once(next.stdout, 'data')
    // The guard may be in the middle of a look that began before.
    await until('they are taken again', async () => {
      await tableIn(here)
        .apply(captured)
        .catch(() => {})
      const shown = route('-4', '240.240.0.0/16')
      return shown.includes('src 127.0.0.1') && destinations(here).includes('240.240.0.1 . 80')
    })
    next.stdin.end()
    await once(next, 'exit')
    await until('the guard lets go again', isOpen)
    await guard.stop()
    t.equal(await ended, 0)
    t.equal(networkState(here), before, 'a guard that ends for good leaves nothing')
  },
)

t.test('a route that cannot be led keeps neither names nor rules', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const [open] = state.destinations
  await tableIn(namespace).apply({ ...state, destinations: open === undefined ? [] : [open] })
  // From now on every route of IPv6 is refused.
  namespace.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1')
  namespace.run('sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=1')
  let given = 0
  const guard = guardIn(namespace, { onGone: async () => void given++ })
  const ended = guard.run()
  await until('names are given back', () => given > 0)
  await until('the rules are gone', () => !namespace.run('nft', 'list', 'ruleset').includes(owner))
  t.notMatch(namespace.run('ip', 'route', 'show', 'table', 'local'), '240.240')
  await guard.stop()
  t.equal(await ended, 0)
})

t.test(
  'with capture off in the config nothing stays, whatever services said',
  { skip },
  async (t) => {
    const namespace = makeNamespace(t)
    const before = networkState(namespace)
    const agent = worker(namespace)
    t.teardown(() => agent.kill())
    await once(agent.stdout, 'data')
    const to = [{ address: '127.0.0.1', port: 8080 }]
    const standIns = [{ address: '240.240.0.1', port: 80, to }]
    const confined = [{ kind: 'user', user: 1001, service: 'orders' }] as const
    await tableIn(namespace).apply({ ...state, standIns, confined })
    const guard = guardIn(namespace, { isOff: () => true })
    const ended = guard.run()
    const held = await hold(t, namespace, '240.240.0.1')
    t.equal(await held.say('taken'), 'taken')
    // The worker lives, but takes nothing new.
    agent.stdin.write('shut')
    await until('nothing is led, refused or confined', () => {
      const shown = namespace.run('nft', 'list', 'table', 'inet', 'hostmesh')
      return !shown.includes('elements = ')
    })
    t.equal(await held.say('still'), 'still', 'what was open lives')
    await held.end()
    await until('no trace is left', () => networkState(namespace) === before)
    await guard.stop()
    t.equal(await ended, 0)
  },
)

t.test('rules that stand as they should are left in peace', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const clock = new FakeClock()
  const standIns = [
    { address: '240.240.0.1', port: 80, to: [{ address: '127.0.0.1', port: 8080 }] },
  ]
  const real = kernelCommands(namespace.enter)
  let asked = 0
  const counted: KernelCommands = {
    ...real,
    ask: (...words) => (asked++, real.ask(...words)),
    ip: (...words) => (asked++, real.ip(...words)),
  }
  let isTaken = false
  const line = '  0: 0100007F:4268 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1'
  const sockets = new KernelSockets(() => [`  sl local\n${isTaken ? `${line}\n` : ''}`])
  await tableIn(namespace).apply({ ...state, standIns })
  const guard = guardIn(namespace, { clock, sockets, commands: counted, lookMs: 1000 })
  const ended = guard.run()
  /** How often programs were run in so many looks. */
  const during = async (looks: number): Promise<number> => {
    const before = asked
    for (let n = 0; n < looks; n++) {
      await clock.advance(1000)
      await guard.looked()
    }
    return asked - before
  }
  await during(3)
  t.notMatch(destinations(namespace), '10.0.0.5', 'it has let go')
  const [calm, long] = [await during(10), await during(100)]
  t.ok(calm <= 4 && long <= 40, `4 programs in ten looks at most: ${calm}, ${long} in a hundred`)
  isTaken = true
  await during(1)
  await tableIn(namespace).apply({ ...state, standIns })
  isTaken = false
  await during(2)
  t.notMatch(
    destinations(namespace),
    '10.0.0.5',
    'and it is as quick as ever when they are left anew',
  )
  const stopped = guard.stop()
  await clock.advance(1000)
  await stopped
  t.equal(await ended, 0)
})
