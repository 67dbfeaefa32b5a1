import t from 'tap'
import { LastCalls, type Carried } from '#agent/registration/last-calls.ts'
import { must, parseServiceName, type ServiceName } from '#shared/model/names.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const orders = must(parseServiceName('orders'))
const told = new Map([[orders, { takesNew: false }]])
const telling = new Map([[orders, { takesNew: true }]])

function lastCalls() {
  const clock = new FakeClock()
  const world: { carried: Carried; looks: number; tookMs: number } = {
    carried: new Map(),
    looks: 0,
    tookMs: 0,
  }
  const quiet: ServiceName[] = []
  const calls = new LastCalls({
    clock,
    ask: async () => {
      world.looks += 1
      if (world.tookMs > 0) await new Promise<void>((done) => clock.after(world.tookMs, done))
      return world.carried
    },
    onQuiet: (services) => quiet.push(...services),
  })
  return { clock, world, quiet, calls }
}

t.test('nothing is asked while nobody leaves, nor after', async (t) => {
  const { clock, world, calls } = lastCalls()
  calls.watch(new Map())
  await clock.advance(10_000)
  t.equal(world.looks, 0)
  calls.watch(telling)
  await clock.advance(1000)
  t.equal(world.looks, 5)
  calls.stop()
  t.equal(clock.pending, 0)
})

t.test('a service is quiet once it takes nothing new and twice nothing was open', async (t) => {
  const { clock, world, quiet, calls } = lastCalls()
  calls.watch(telling)
  await clock.advance(2000)
  t.equal(calls.openTo(orders), 0)
  t.same(quiet, [], 'somebody may still come')
  world.carried = new Map([['orders', 3]])
  calls.watch(told)
  await clock.advance(2000)
  t.equal(calls.openTo(orders), 3)
  world.carried = new Map([['orders', 0]])
  await clock.advance(200)
  t.same(quiet, [])
  calls.watch(told)
  await clock.advance(200)
  t.same(quiet, [orders])
  await clock.advance(2000)
  t.same(quiet, [orders], 'said once')
})

t.test('a worker that does not tell may carry anything', async (t) => {
  const { clock, world, quiet, calls } = lastCalls()
  calls.watch(told)
  await clock.advance(200)
  world.carried = null
  await clock.advance(200)
  t.equal(calls.openTo(orders), null)
  world.carried = new Map()
  await clock.advance(200)
  t.same(quiet, [])
  await clock.advance(200)
  t.same(quiet, [orders])
})

t.test('an answer about a service that has come back counts for nothing', async (t) => {
  const { clock, world, quiet, calls } = lastCalls()
  calls.watch(told)
  await clock.advance(200)
  world.tookMs = 100
  await clock.advance(200)
  calls.watch(new Map())
  await clock.advance(1000)
  t.same(quiet, [])
  t.equal(clock.pending, 0)
})

t.test('a host with much to count is asked less often', async (t) => {
  const { clock, world, calls } = lastCalls()
  world.tookMs = 100
  calls.watch(telling)
  await clock.advance(200)
  await clock.advance(100)
  await clock.advance(1999)
  t.equal(world.looks, 1)
  await clock.advance(1)
  t.equal(world.looks, 2)
})
