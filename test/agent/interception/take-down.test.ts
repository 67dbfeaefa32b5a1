import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { nothing } from '#agent/interception/capture-state.ts'
import { kernelCommands } from '#agent/interception/commands.ts'
import { TakeDown } from '#agent/interception/take-down.ts'
import { KernelSockets } from '#agent/kernel/sockets.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { tableIn } from '#test/support/kernel-table.ts'
import { makeNamespace, networkState, type Namespace } from '#test/support/namespace.ts'
import { lacks } from '#test/support/needs.ts'
import { silentLogger } from '#test/support/silent-logger.ts'
import { until } from '#test/support/until.ts'

const skip = lacks('netns', 'nft')
const owner = '/run/mesh/agent'

// Timers of the clock keep no process alive.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

/** Takes captured connections and holds one itself; echoes over it what it is told. */
const program = `
  const net = require('node:net')
  net.createServer((s) => s.on('error', () => {}).pipe(s)).listen(17000, () => {
    console.log('open')
    process.stdin.once('data', () => {
      const s = net.connect(80, '240.240.0.1')
      process.stdin.on('data', (d) => s.write(d))
      s.on('connect', () => console.log('held')).on('data', (d) => console.log(String(d)))
        .on('close', () => console.log('closed'))
    })
  })`

function parts(namespace: Namespace, onGone: () => void) {
  return {
    clock: systemClock,
    logger: silentLogger,
    commands: kernelCommands(namespace.enter),
    sockets: new KernelSockets((file) => [namespace.run('cat', file)]),
    onGone,
  }
}

const settings = { owner, firstPort: 17000, lookMs: 20 }

t.test('what an earlier run left goes with its last connection', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const before = networkState(namespace)
  const child = spawn('nsenter', [...namespace.enter.slice(1), process.execPath, '-e', program], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill())
  const say = async (word: string): Promise<string> => {
    child.stdin.write(word)
    const [said] = (await once(child.stdout, 'data')) as [Buffer]
    return String(said).trim()
  }
  await once(child.stdout, 'data')
  const at = { address: '240.240.0.1', port: 80 }
  const table = tableIn(namespace)
  await table.apply({
    ...nothing,
    unknownPort: 17000,
    destinations: [{ ...at, virtual: at.address, denied: true }],
    locks: [{ port: 8080, users: [0], mode: 'strict' }],
    standIns: [{ ...at, to: [{ address: '127.0.0.1', port: 8080 }] }],
  })
  t.equal(await say('go'), 'held')
  let gone = 0
  const takeDown = new TakeDown(
    parts(namespace, () => void gone++),
    settings,
  )
  await takeDown.start()
  const shown = namespace.run('nft', 'list', 'table', 'inet', 'hostmesh')
  t.notMatch(shown, 'elements = ', 'at once nothing is led or locked any more')
  t.equal(await say('still here'), 'still here')
  t.equal(gone, 0, 'ports are still needed')
  child.kill()
  await until('ports are needed no more', () => gone > 0)
  t.equal(networkState(namespace), before, 'no trace is left')
  await takeDown.stop()
  t.equal(gone, 1)
})

t.test(
  'where nothing stood, and where another agent’s rules do, nothing happens',
  { skip },
  async (t) => {
    const namespace = makeNamespace(t)
    const other = tableIn(namespace, { owner: '/run/other' })
    const onGone = (): void => void t.fail('nothing was there')
    const before = networkState(namespace)
    await new TakeDown(parts(namespace, onGone), settings).start()
    t.equal(networkState(namespace), before)
    await other.apply({ ...nothing, locks: [{ port: 8080, users: [0], mode: 'strict' }] })
    const stands = networkState(namespace)
    await new TakeDown(parts(namespace, onGone), settings).start()
    t.equal(networkState(namespace), stands)
  },
)

t.test('a kernel that refuses is asked again; without nft nothing can stand', async (t) => {
  const clock = new FakeClock({ epoch: 0 })
  let asked = 0
  let code = 'command-failed'
  const refuse = async (): Promise<never> => {
    asked++
    throw new MeshError('nft: busy', { code })
  }
  const takeDown = new TakeDown(
    {
      clock,
      logger: silentLogger,
      commands: { nft: refuse, ask: refuse, ip: refuse },
      onGone: () => void t.fail('nobody knows'),
    },
    { owner, firstPort: 17000 },
  )
  await takeDown.start()
  await clock.advance(1000)
  t.equal(asked, 2)
  code = 'nft-missing'
  await clock.advance(5000)
  t.equal(asked, 3, 'the last time')
  await takeDown.stop()
})
