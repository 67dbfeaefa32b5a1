import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { Membership } from '#controller/leader/membership.ts'
import { systemRandom as random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import { controllersPrefix, leaderKey } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { openStore } from '#test/support/embedded-store.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'
import { logLines } from '#test/support/log-lines.ts'

interface World {
  readonly clock: FakeClock
  readonly store: KeyValue
  readonly lines: ReturnType<typeof logLines>['lines']
  /** A controller; while `line.cut` is set it hears nothing of the store. */
  readonly member: (name: string) => {
    readonly membership: Membership
    readonly line: { cut: boolean }
  }
}

function raise(t: Test): World {
  const clock = new FakeClock()
  const embedded = openStore(join(testDirectory(t), 'store.db'), { clock })
  const { logger, lines } = logLines()
  t.teardown(() => embedded.stop())
  const store = embedded.keyValue
  return {
    clock,
    store,
    lines,
    member(name) {
      const line = { cut: false }
      const guarded = new Proxy(store, {
        get(target, key: keyof KeyValue) {
          return (...args: never[]) => {
            if (line.cut) return Promise.reject(new MeshError('cut', { code: 'store-timeout' }))
            return (target[key] as (...args: never[]) => unknown).apply(target, args)
          }
        },
      })
      const membership = new Membership(
        { store: guarded, clock, random, logger },
        { name: must(parseHostName(name)), address: `${name}:15010` },
      )
      return { membership, line }
    },
  }
}

t.test(
  'the first one leads, the others know it, and a planned stop hands on at once',
  async (t) => {
    const { clock, store, member } = raise(t)
    const [one, two] = [member('c1').membership, member('c2').membership]
    await one.start()
    await two.start()
    t.teardown(() => two.stop())
    t.strictSame([one.isLeader, two.isLeader], [true, false])
    t.equal(two.leader, 'c1')
    await clock.advance(20_000)
    t.strictSame([one.isLeader, two.isLeader], [true, false], 'for as long as it lives')
    const both = ['c1', 'c2'].map((name) => ({ name, address: `${name}:15010` }))
    t.strictSame(one.controllers, both)
    await one.stop()
    t.equal(one.isLeader, false)
    await clock.advance(2000)
    await until('the other one leads', () => two.isLeader && two.controllers.length === 1)
    t.strictSame(two.controllers, [both[1]])
    t.equal((await store.list(controllersPrefix)).entries.length, 1)
  },
)

t.test('one that is cut off stops leading before another begins', async (t) => {
  const { clock, store, member } = raise(t)
  const [one, two] = [member('c1'), member('c2')]
  await one.membership.start()
  await two.membership.start()
  t.teardown(() => Promise.all([one.membership.stop(), two.membership.stop()]))
  one.line.cut = true
  let led = 0
  for (let waited = 0; waited < 20_000; waited += 100) {
    await clock.advance(100)
    const leaders = [one, two].filter(({ membership }) => membership.isLeader)
    if (leaders.length > 1) t.fail(`two lead after ${waited} ms`)
    if (two.membership.isLeader && led === 0) led = waited
  }
  t.ok(led > 0 && led < 15_000, `the other one leads after ${led} ms`)
  t.match((await store.get(leaderKey)).entry?.value, /"c2"/)
  one.line.cut = false
  await clock.advance(10_000)
  await until('the first one hears of it', () => one.membership.leader === 'c2')
  t.strictSame([one.membership.isLeader, two.membership.isLeader], [false, true])
  await clock.advance(3000)
  await until('both know each other', () => two.membership.controllers.length === 2)
})

t.test('two of one name are told, and the second takes no place', async (t) => {
  const { clock, lines, member } = raise(t)
  const [one, other] = [member('c1').membership, member('c1').membership]
  await one.start()
  await other.start()
  t.teardown(() => Promise.all([one.stop(), other.stop()]))
  await clock.advance(10_000)
  t.strictSame([one.isLeader, other.isLeader], [true, false])
  const told = lines.filter(({ problem }) =>
    /another controller is called c1/.test(String(problem)),
  )
  t.equal(told.length, 1, 'once')
})
