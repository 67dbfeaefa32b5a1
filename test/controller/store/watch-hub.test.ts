import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import type { WatchCreateRequest, WatchResponse } from '#shared/store/wire.ts'
import { openDatabase } from '#controller/store/database.ts'
import { Engine } from '#controller/store/engine.ts'
import { Mvcc } from '#controller/store/mvcc.ts'
import { Snapshots } from '#controller/store/snapshots.ts'
import type { HubWatch } from '#controller/store/watch-hub.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const everything = { key: Buffer.from('\0'), range_end: Buffer.from('\0') }

function makeEngine(t: Test): Engine {
  const file = join(testDirectory(t), 'store.db')
  const database = openDatabase({ random: systemRandom }, file)
  const engine = new Engine(
    {
      mvcc: new Mvcc({ database }),
      snapshots: new Snapshots({ random: systemRandom }, { file }),
      clock: systemClock,
      random: systemRandom,
      logger: createLogger({ name: 'test', level: 'silent' }),
    },
    {},
  )
  t.teardown(() => engine.stop())
  return engine
}

/** A reader that takes answers only while it is willing. */
class Reader {
  readonly answers: WatchResponse[] = []
  readonly watch: HubWatch
  willing = true

  constructor(engine: Engine, request: WatchCreateRequest) {
    this.watch = engine.openWatch({ ...everything, ...request }, '7', this)
  }

  get isReady(): boolean {
    return this.willing
  }

  take(response: WatchResponse): void {
    this.answers.push(response)
  }

  get events(): readonly string[] {
    return this.answers.flatMap((answer) =>
      answer.events.map(
        (event) => `${event.type} ${event.kv.key.toString()} ${event.kv.value.toString()}`,
      ),
    )
  }
}

const put = (engine: Engine, key: string, value = ''): Promise<unknown> =>
  engine.put({ key: Buffer.from(key), value: Buffer.from(value) })

t.test('WatchHub queues nothing for a slow reader and misses nothing for it', async (t) => {
  const engine = makeEngine(t)
  const reader = new Reader(engine, {})
  await put(engine, 'a', '0')
  reader.willing = false
  for (let at = 1; at <= 1200; at++) void put(engine, 'a', String(at))
  await put(engine, 'a', 'last')
  const taken = reader.answers.length
  t.equal(taken, 1)
  t.notOk(reader.watch.current)
  await put(engine, 'b', 'later')
  t.equal(reader.answers.length, taken)
  reader.willing = true
  reader.watch.resume()
  t.strictSame(reader.events, [
    ...Array.from({ length: 1201 }, (_, at) => `Put a ${at}`),
    'Put a last',
    'Put b later',
  ])
  t.ok(reader.watch.current)
})

t.test('WatchHub ends a slow reader whose place was compacted away', async (t) => {
  const engine = makeEngine(t)
  const reader = new Reader(engine, {})
  await put(engine, 'a', '0')
  reader.willing = false
  for (let at = 1; at <= 5; at++) await put(engine, 'a', String(at))
  await engine.compact({ revision: '6' })
  reader.willing = true
  reader.watch.resume()
  const last = reader.answers.at(-1)
  t.match(last, { canceled: true, compact_revision: '6', watch_id: '7' })
  const { length } = reader.answers
  await put(engine, 'a', 'more')
  t.equal(reader.answers.length, length)
})

t.test('WatchHub filters by range, kind and revision', async (t) => {
  const engine = makeEngine(t)
  await put(engine, 'a', 'before')
  const noPuts = new Reader(engine, { filters: ['Noput'], start_revision: '2' })
  const noDeletes = new Reader(engine, { filters: ['Nodelete'], start_revision: '2' })
  const onlyB = new Reader(engine, { key: Buffer.from('b'), range_end: Buffer.alloc(0) })
  const future = new Reader(engine, { start_revision: '5' })
  const fromNow = new Reader(engine, {})
  await put(engine, 'b', '3')
  await engine.deleteRange({ key: Buffer.from('a') })
  await put(engine, 'ba', '5')
  t.strictSame(noPuts.events, ['Delete a '])
  t.strictSame(noDeletes.events, ['Put a before', 'Put b 3', 'Put ba 5'])
  t.strictSame(onlyB.events, ['Put b 3'])
  t.strictSame(future.events, ['Put ba 5'])
  t.strictSame(fromNow.events, ['Put b 3', 'Delete a ', 'Put ba 5'])
})

t.test('WatchHub shows what was there before to those who ask', async (t) => {
  const engine = makeEngine(t)
  await put(engine, 'a', 'one')
  const live = new Reader(engine, { prev_kv: true })
  await put(engine, 'a', 'two')
  await engine.deleteRange({ key: Buffer.from('a') })
  const late = new Reader(engine, { prev_kv: true, start_revision: '3' })
  await put(engine, 'b')
  for (const reader of [live, late]) {
    const before = reader.answers.flatMap((answer) =>
      answer.events.map((event) => event.prev_kv?.value.toString() ?? null),
    )
    t.strictSame(before, ['one', 'two', null])
  }
})

t.test('WatchHub cuts a large answer for those who can put it together', async (t) => {
  const engine = makeEngine(t)
  const whole = new Reader(engine, {})
  const cut = new Reader(engine, { fragment: true })
  const { ID } = await engine.leaseGrant({ TTL: '60' })
  for (let at = 0; at < 1200; at++) {
    void engine.put({ key: Buffer.from(`k${String(at).padStart(4, '0')}`), lease: ID })
  }
  await put(engine, 'z')
  whole.answers.length = 0
  cut.answers.length = 0
  await engine.leaseRevoke({ ID })
  t.strictSame(
    whole.answers.map((answer) => answer.events.length),
    [1200],
  )
  t.strictSame(
    cut.answers.map((answer) => [answer.events.length, answer.fragment]),
    [
      [500, true],
      [500, true],
      [200, false],
    ],
  )
  t.strictSame(cut.events, whole.events)
})
