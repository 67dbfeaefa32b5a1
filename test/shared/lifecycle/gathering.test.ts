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
