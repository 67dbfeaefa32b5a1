import t from 'tap'
import { NameTargets } from '#agent/interception/name-targets.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const everyMs = 30_000

/** Look-ups that a test answers when it likes. */
function make() {
  const clock = new FakeClock()
  const asked: string[] = []
  const open = new Map<string, (found: readonly string[] | Error) => void>()
  let changes = 0
  const names = new NameTargets({
    clock,
    onChange: () => void changes++,
    lookup: (name) => {
      asked.push(name)
      const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>()
      open.set(name, (found) => (found instanceof Error ? reject(found) : resolve(found)))
      return promise
    },
  })
  t.teardown(() => names.stop())
  const answer = async (name: string, found: readonly string[] | Error): Promise<void> => {
    const say = open.get(name)
    if (say === undefined) throw new Error(`${name} is not being looked up`)
    open.delete(name)
    say(found)
    await clock.advance(0)
  }
  return { clock, names, asked, open, answer, changes: () => changes }
}

t.test('few names are looked up at once, and none again before its answer', async (t) => {
  const { clock, names, asked, open, answer } = make()
  for (const name of ['a.test', 'b.test', 'c.test']) t.same(names.resolve(`${name}:80`), [])
  t.same(asked, ['a.test', 'b.test'], 'a resolver that is silent holds two threads at most')
  await clock.advance(3 * everyMs)
  t.same(asked, ['a.test', 'b.test'], 'rounds do not pile up')
  await answer('a.test', ['203.0.113.1'])
  t.same(asked, ['a.test', 'b.test', 'c.test'])
  t.ok(names.isLooking)
  await answer('b.test', new Error('EAI_AGAIN'))
  await answer('c.test', [])
  t.notOk(names.isLooking)
  t.same([open.size, names.problemOf('b.test'), names.problemOf('c.test')], [0, 'EAI_AGAIN', ''])
  t.same(names.resolve('a.test:80'), [{ address: '203.0.113.1', port: 80 }])
  await clock.advance(everyMs)
  t.notOk(names.isLooking, 'who has had an answer is waited for no more')
})

t.test('a name that nobody asks for any more is forgotten', async (t) => {
  const { clock, names, asked, answer } = make()
  names.resolve('a.test:80')
  names.resolve('b.test:80')
  await answer('a.test', ['203.0.113.1'])
  await answer('b.test', ['203.0.113.2'])
  await clock.advance(everyMs)
  names.resolve('a.test:80')
  await answer('a.test', new Error('ESERVFAIL'))
  await answer('b.test', ['203.0.113.2'])
  asked.length = 0
  await clock.advance(everyMs)
  t.same(asked, ['a.test'])
  t.same(names.resolve('a.test:80'), [{ address: '203.0.113.1', port: 80 }], 'the last good answer')
  t.same(names.resolve('b.test:80'), [], 'looked up as if for the first time')
})

t.test('more addresses and names than bounds are left out, names with a word', async (t) => {
  const { names, answer } = make()
  names.resolve('many.test:80')
  const found = Array.from({ length: 5000 }, (_, n) => `203.0.${n >> 8}.${n & 255}`)
  await answer('many.test', found)
  t.equal(names.resolve('many.test:80').length, 64)
  for (let n = 1; n < 1000; n++) names.resolve(`n${n}.test:80`)
  t.equal(names.problemOf('n999.test'), '')
  t.same(names.resolve('late.test:80'), [])
  t.match(names.problemOf('late.test'), /more than 1000 names/)
})
