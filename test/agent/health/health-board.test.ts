import t, { type Test } from 'tap'
import { stateOfPort } from '#agent/health/check-rules.ts'
import { HealthBoard } from '#agent/health/health-board.ts'
import { KeptResults } from '#agent/health/kept-results.ts'
import type { ProbeTarget } from '#agent/health/probe.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import { must, parsePortName, type ServiceName } from '#shared/model/names.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const orders = 'orders' as ServiceName
const middle = { fraction: () => 0.5, bytes: (count: number) => Buffer.alloc(count) }

function manifest(content: object, name = 'orders'): Manifest {
  const reading = readManifest(`/m/${name}.json`, Buffer.from(JSON.stringify(content)))
  if (!reading.ok) throw new Error(JSON.stringify(reading.problems))
  return reading.manifest
}

interface World {
  readonly clock?: FakeClock
  readonly kept?: KeptResults
}

function boardOf(t: Test, { clock = new FakeClock(), kept }: World = {}) {
  const { logger, lines } = logLines()
  const checks: ProbeTarget[] = []
  const world = { pass: true, hang: false, whyNot: '' }
  const board = new HealthBoard({
    clock,
    random: middle,
    logger,
    whyNot: async () => world.whyNot,
    ...(kept === undefined ? {} : { kept }),
    probe: async (target, signal) => {
      checks.push(target)
      if (world.hang) await new Promise((resolve) => signal.addEventListener('abort', resolve))
      if (signal.aborted) return { outcome: 'fail', detail: (signal.reason as Error).message }
      return world.pass
        ? { outcome: 'pass', detail: 'fine' }
        : { outcome: 'fail', detail: 'ECONNREFUSED' }
    },
  })
  t.teardown(() => board.stop())
  let changes = 0
  board.onChange(() => {
    changes += 1
  })
  const state = (): string | undefined => board.statusOf(orders)?.state
  return { clock, lines, checks, world, board, state, changes: () => changes }
}

t.test('a service that is not to be asked fails its check unasked, with the reason', async (t) => {
  const { clock, board, checks, world, state } = boardOf(t)
  world.whyNot = 'another user listens at its port'
  board.apply([manifest({ port: 8080, health: { kind: 'http', fall: 1 } })])
  await clock.advance(0)
  t.match(board.statusOf(orders), { state: 'failing', detail: world.whyNot })
  t.strictSame(checks, [])
  world.whyNot = ''
  await clock.advance(1100)
  t.equal(state(), 'passing')
})

t.test('a new instance is checked at once and passes', async (t) => {
  const { board, clock, state, changes, lines } = boardOf(t)
  board.apply([manifest({ port: 8080 })])
  t.equal(state(), 'starting')
  await clock.advance(0)
  t.equal(state(), 'passing')
  t.equal(changes(), 1)
  t.match(lines, [{ msg: 'health: starting -> passing', service: 'orders', detail: 'fine' }])
})

t.test(
  'checks follow the interval; states change by rise and fall; each change is told',
  async (t) => {
    const { board, clock, checks, world, state, changes, lines } = boardOf(t)
    board.apply([manifest({ port: 8080, health: { intervalMs: 500, rise: 2, fall: 3 } })])
    await clock.advance(200)
    t.equal(state(), 'passing')
    t.equal(checks.length, 2, 'fast while starting')
    await clock.advance(5000)
    t.equal(checks.length, 12)
    world.pass = false
    await clock.advance(1000)
    t.equal(state(), 'passing')
    await clock.advance(500)
    t.equal(state(), 'failing')
    t.match(board.statusOf(orders), { detail: 'ECONNREFUSED' })
    world.pass = true
    await clock.advance(1000)
    t.equal(state(), 'passing')
    t.equal(changes(), 3)
    t.match(
      lines.map((line) => line['msg']),
      ['health: starting -> passing', 'health: passing -> failing', 'health: failing -> passing'],
    )
  },
)

t.test('a check that hangs fails at its timeout, and no second one starts meanwhile', async (t) => {
  const { board, clock, checks, world, state } = boardOf(t)
  world.hang = true
  board.apply([manifest({ port: 8080, health: { intervalMs: 100, timeoutMs: 1000, fall: 1 } })])
  await clock.advance(999)
  t.equal(checks.length, 1)
  t.equal(state(), 'starting')
  await clock.advance(1)
  t.equal(state(), 'failing')
  t.match(board.statusOf(orders), { detail: /no answer within 1000 ms/ })
})

t.test('the board knows since when an instance fares as it does', async (t) => {
  const { board, clock, world } = boardOf(t)
  const start = clock.now()
  t.equal(board.sinceMs(orders), 0)
  board.apply([manifest({ port: 8080, health: { kind: 'push', ttlMs: 60_000 } })])
  await clock.advance(20_000)
  t.equal(board.sinceMs(orders), start)
  board.bring(orders, null, { outcome: 'pass', detail: '' })
  await clock.advance(1000)
  board.bring(orders, null, { outcome: 'pass', detail: 'again' })
  t.equal(board.sinceMs(orders), start + 20_000)
  world.hang = true
  board.apply([manifest({ port: 8081 })])
  t.equal(board.sinceMs(orders), start + 21_000)
})

t.test('callers are not checked, and a removed manifest is not checked any more', async (t) => {
  const { board, clock, checks, state } = boardOf(t)
  board.apply([manifest({ upstreams: { users: 9001 } }, 'web'), manifest({ port: 8080 })])
  await clock.advance(1000)
  t.ok(checks.length > 0)
  t.ok(checks.every(({ port }) => port === 8080))
  board.apply([])
  t.equal(state(), undefined)
  const before = checks.length
  await clock.advance(10_000)
  t.equal(checks.length, before)
  t.equal(clock.pending, 0)
})

t.test(
  'a check that asks the same keeps its state; another question, or another instance, starts anew',
  async (t) => {
    const { board, clock, checks, state, changes } = boardOf(t)
    board.apply([manifest({ port: 8080 })])
    await clock.advance(0)
    board.apply([manifest({ port: 8080, weight: 5 })])
    await clock.advance(0)
    t.equal(checks.length, 1, 'nothing that concerns the check has changed')
    board.apply([manifest({ port: 8080, health: { intervalMs: 500, fall: 3 } })])
    t.equal(state(), 'passing')
    await clock.advance(0)
    t.equal(checks.length, 2)
    t.equal(changes(), 1)
    const asked = { name: 'tcp', kind: 'http', path: '/up' }
    for (const health of [
      asked,
      { ...asked, path: '/other' },
      { ...asked, port: 9000 },
      { name: 'tcp', kind: 'grpc' },
      { name: 'tcp', kind: 'grpc', service: 'shop.Orders' },
    ]) {
      board.apply([manifest({ port: 8080, health })])
      t.match(board.statusOf(orders), { state: 'starting', detail: 'not checked yet' })
      await clock.advance(0)
      t.equal(state(), 'passing')
    }
    t.match(checks.slice(2), [
      { check: { kind: 'http', path: '/up' } },
      { check: { kind: 'http', path: '/other' } },
      { port: 9000 },
      { check: { kind: 'grpc' } },
      { check: { kind: 'grpc', grpcService: 'shop.Orders' } },
    ])
    board.apply([manifest({ port: 8081 })])
    t.equal(state(), 'starting')
    await clock.advance(0)
    t.equal(state(), 'passing')
  },
)

t.test('stop ends a check under way', async (t) => {
  const { board, world, clock, changes } = boardOf(t)
  world.hang = true
  board.apply([manifest({ port: 8080, health: { fall: 1 } })])
  await board.stop()
  t.equal(clock.pending, 0)
  t.equal(changes(), 0)
})

t.test('several checks make one verdict; one that is added has to pass first', async (t) => {
  const { board, clock, checks, state } = boardOf(t)
  board.apply([manifest({ port: 8080, health: [{ port: 9000 }, { kind: 'http', path: '/up' }] })])
  t.equal(state(), 'starting')
  await clock.advance(0)
  t.equal(state(), 'passing')
  t.match(checks, [
    { port: 9000, check: { kind: 'tcp' } },
    { port: 8080, check: { kind: 'http' } },
  ])
  board.apply([manifest({ port: 8080, health: [{ port: 9000 }, { kind: 'push' }] })])
  t.match(board.statusOf(orders), { state: 'starting', detail: 'push: not checked yet' })
  t.match(board.bring(orders, null, { outcome: 'pass', detail: 'ok' }), { kind: 'taken' })
  t.equal(state(), 'passing')
})

t.test('a brought result counts at once, and no longer than its time', async (t) => {
  const { board, clock, state, changes, lines } = boardOf(t)
  board.apply([manifest({ port: 8080, health: { kind: 'push', ttlMs: 5000 } })])
  t.equal(state(), 'starting')
  board.bring(orders, null, { outcome: 'warn', detail: 'disk is filling' })
  t.match(board.statusOf(orders), { state: 'warning', detail: 'disk is filling' })
  await clock.advance(4999)
  board.bring(orders, 'push', { outcome: 'pass', detail: 'fine' })
  await clock.advance(4999)
  t.equal(state(), 'passing')
  await clock.advance(1)
  t.match(board.statusOf(orders), { state: 'failing', detail: 'no result was brought for 5 s' })
  t.equal(changes(), 3)
  t.match(board.changes, [
    { service: orders, state: 'warning', count: 1 },
    { service: orders, state: 'passing', count: 1 },
    { service: orders, state: 'failing', count: 1 },
  ])
  t.match(lines.at(-1), { level: 'warn', msg: 'health: passing -> failing', check: 'push' })
})

t.test('a result that no check waits for is refused with what to do', async (t) => {
  const { board } = boardOf(t)
  const result = { outcome: 'pass', detail: '' } as const
  t.match(board.bring(orders, null, result), { kind: 'refused', problem: /no service orders/ })
  board.apply([manifest({ port: 8080 })])
  t.match(board.bring(orders, null, result), { problem: /waits for results/, hint: /"push"/ })
  const health = [
    { kind: 'push', name: 'disk' },
    { kind: 'push', name: 'load' },
  ]
  board.apply([manifest({ port: 8080, health })])
  t.match(board.bring(orders, null, result), { problem: /several/, hint: /disk, load/ })
  t.match(board.bring(orders, 'cpu', result), { problem: /no push check cpu/ })
  t.match(board.bring(orders, 'load', result), { kind: 'taken', check: 'load' })
})

t.test('a check that counts as passing at first is offered before its verdict', async (t) => {
  const { board, world, clock, state } = boardOf(t)
  world.pass = false
  board.apply([manifest({ port: 8080, health: { initial: 'passing', fall: 1 } })])
  t.equal(state(), 'passing')
  await clock.advance(0)
  t.equal(state(), 'failing')
})

t.test('a check of a named port decides about that port alone', async (t) => {
  const { board, clock, state, changes, world, checks } = boardOf(t)
  const fallible = { fall: 1, portName: 'admin', name: 'admin' }
  board.apply([
    manifest({
      port: 8080,
      ports: { admin: 9090 },
      health: [{ name: 'main', fall: 100 }, fallible],
    }),
  ])
  const admin = must(parsePortName('admin'))
  const port = () =>
    stateOfPort(board.statusOf(orders) ?? { state: 'failing', detail: '', checks: [] }, admin)
  t.same([state(), port()], ['starting', 'starting'])
  await clock.advance(0)
  t.same([state(), port()], ['passing', 'passing'])
  t.same(
    checks.map((target) => target.port).sort((a, b) => a - b),
    [8080, 9090],
  )
  const before = changes()
  world.pass = false
  await clock.advance(1000)
  t.same([state(), port()], ['passing', 'failing'])
  t.equal(changes(), before + 1, 'and is told')
  t.same(
    board.changes.map((one) => one.state),
    ['passing'],
    'the service did not change',
  )
})

t.test('what was brought still counts after a restart, for the time it has left', async (t) => {
  const runDirectory = testDirectory(t)
  const clock = new FakeClock()
  const { logger } = logLines()
  /** The board of a process that starts now, and how that process ends. */
  const start = async () => {
    const kept = new KeptResults({ clock, logger }, { runDirectory })
    await kept.load()
    const { board, state } = boardOf(t, { clock, kept })
    const end = async (): Promise<void> => {
      await board.stop()
      await kept.stop()
    }
    return { board, state, end }
  }
  const health = [
    { kind: 'push', ttlMs: 60_000 },
    { kind: 'push', name: 'disk', ttlMs: 60_000 },
  ]
  const first = await start()
  first.board.apply([manifest({ port: 8080, health })])
  first.board.bring(orders, 'push', { outcome: 'pass', detail: 'fine' })
  first.board.bring(orders, 'disk', { outcome: 'warn', detail: 'is filling' })
  await first.end()
  await clock.advance(20_000)
  const second = await start()
  second.board.apply([manifest({ port: 8080, health })])
  t.match(second.board.statusOf(orders), {
    state: 'warning',
    detail: 'disk: is filling',
    checks: [{ state: 'passing', detail: 'fine' }, { state: 'warning' }],
  })
  second.board.bring(orders, 'disk', { outcome: 'pass', detail: 'cleaned' })
  t.equal(second.state(), 'passing')
  await second.end()
  const third = await start()
  third.board.apply([manifest({ port: 8080, health })])
  await clock.advance(39_999)
  t.equal(third.state(), 'passing')
  await clock.advance(1)
  t.match(third.board.statusOf(orders), {
    state: 'failing',
    detail: 'push: no result was brought for 60 s',
  })
  await third.end()
})

t.test('a check that has gone, or that moved, takes what was brought with it', async (t) => {
  const runDirectory = testDirectory(t)
  const clock = new FakeClock()
  const { logger } = logLines()
  const kept = new KeptResults({ clock, logger }, { runDirectory })
  const { board, state } = boardOf(t, { clock, kept })
  const at = (port: number) => manifest({ port, health: { kind: 'push' } })
  const pass = (): void => {
    board.bring(orders, null, { outcome: 'pass', detail: 'fine' })
    t.equal(state(), 'passing')
  }
  board.apply([at(8080)])
  pass()
  board.apply([at(8081)])
  t.equal(state(), 'starting')
  board.apply([at(8080)])
  t.equal(state(), 'starting')
  pass()
  board.apply([])
  board.apply([at(8080)])
  t.equal(state(), 'starting')
  await kept.stop()
})
