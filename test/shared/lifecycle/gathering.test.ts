import t from 'tap'
import { Gathering } from '#shared/lifecycle/gathering.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

t.test('what is asked for within a moment is done once, at its end', async (t) => {
  const clock = new FakeClock()
  let done = 0
  const gathering = new Gathering({ clock, run: () => (done += 1) }, { gatherMs: 5 })
  gathering.ask()
  await clock.advance(4)
  gathering.ask()
  t.equal(done, 0)
  await clock.advance(1)
  t.equal(done, 1)
  await clock.advance(100)
  t.equal(done, 1)
  gathering.ask()
  await clock.advance(5)
  t.equal(done, 2)
  gathering.ask()
  gathering.stop()
  gathering.ask()
  await clock.advance(100)
  t.equal(done, 2)
  t.equal(clock.pending, 0)
})

t.test('work that can wait rests after a run for as many times as long as that took', async (t) => {
  const fake = new FakeClock()
  let [done, busyMs] = [0, 0]
  const clock = {
    now: () => fake.now(),
    every: fake.every.bind(fake),
    after: fake.after.bind(fake),
    elapsed: () => fake.elapsed() + busyMs,
  }
  const run = (): void => {
    done += 1
    busyMs += 10
  }
  const gathering = new Gathering({ clock, run }, { gatherMs: 5, restShare: 4 })
  gathering.ask()
  await fake.advance(5)
  t.equal(done, 1)
  gathering.ask()
  await fake.advance(39)
  t.equal(done, 1, 'it rests')
  await fake.advance(1)
  t.equal(done, 2)
  await fake.advance(100)
  gathering.ask()
  await fake.advance(5)
  t.equal(done, 3, 'a rest that is over delays nothing')
})
