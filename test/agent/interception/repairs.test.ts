import t from 'tap'
import { nothing, type CaptureState } from '#agent/interception/capture-state.ts'
import { kernelCommands, type KernelCommands } from '#agent/interception/commands.ts'
import { KernelTable } from '#agent/interception/kernel-table.ts'
import { Repairs } from '#agent/interception/repairs.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { tableShape } from '#test/support/kernel-table.ts'
import { makeNamespace } from '#test/support/namespace.ts'
import { lacks } from '#test/support/needs.ts'
import { silentLogger } from '#test/support/silent-logger.ts'
import { until } from '#test/support/until.ts'

const skip = lacks('netns', 'nft')

// A program that only listens keeps no process alive.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

function stateOf(count: number): CaptureState {
  const places = Array.from({ length: count }, (_, n) => n + 1)
  return {
    ...nothing,
    unknownPort: 17000,
    callers: places.map((n) => ({ kind: 'user', user: 1000 + n, port: 17000 + n })),
    destinations: places.flatMap((n) =>
      [`10.0.0.${n}`, `fd00::${n.toString(16)}`].map((address) => ({
        address,
        port: 80,
        virtual: address.includes(':') ? 'fd12:3456:789a::1' : '240.240.0.1',
        denied: n % 2 === 0,
      })),
    ),
    locks: places.map((n) => ({ port: 8000 + n, users: [0, n], mode: 'permissive' })),
    answers: places.map((n) => ({ address: '127.0.0.1', port: 8000 + n, users: [0, n] })),
  }
}

t.test(
  'what we delete ourselves is no reason to look; what others delete is',
  { skip },
  async (t) => {
    const namespace = makeNamespace(t)
    const clock = new FakeClock()
    const real = kernelCommands(namespace.enter)
    let told = 0
    let hears = false
    const commands: KernelCommands = {
      ...real,
      monitor: (onLine, onEnd) =>
        real.monitor((line) => {
          if (line.includes('probe')) hears = true
          if (line.startsWith('delete ')) told++
          onLine(line)
        }, onEnd),
    }
    let looks = 0
    const table = new KernelTable(
      {
        commands: { ...commands, ask: (...words) => (looks++, real.ask(...words)) },
        logger: silentLogger,
      },
      tableShape,
    )
    await table.apply(stateOf(20))
    const repairs = new Repairs({
      clock,
      logger: silentLogger,
      commands,
      onFailed: (error) => void t.error(error),
    })
    t.teardown(() => repairs.stop())
    repairs.watch(table)
    await until('the monitor hears', () => {
      namespace.run('nft', 'add table inet probe; delete table inet probe')
      return hears
    })
    const before = looks
    told = 0
    await table.apply(stateOf(10))
    // 10 callers, 20 destinations, 10 denials, 10 locks with 20 users, 10 answers of 20 users.
    await until('all of it was told', () => told >= 100)
    await clock.advance(1000)
    t.equal(looks, before, 'nobody looked')
    namespace.run('nft', 'delete', 'element', 'inet', 'hostmesh', 'callers', '{ 1001 }')
    await until('others are noticed', async () => {
      await clock.advance(1000)
      return namespace
        .run('nft', '-n', 'list', 'map', 'inet', 'hostmesh', 'callers')
        .includes('1001')
    })
    await table.apply(stateOf(9))
    namespace.run('nft', 'flush', 'ruleset')
    await until('a flush is', async () => {
      await clock.advance(50)
      return namespace.run('nft', 'list', 'tables').includes('hostmesh')
    })
    // A look that has begun ends before the network does.
    repairs.stop()
    await table.check()
  },
)
