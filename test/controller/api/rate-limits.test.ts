/** Holds rate limits to their figures and their bound. */

import t from 'tap'
import { RateLimits } from '#controller/api/rate-limits.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

t.test('a caller gets its burst, then its rate, and others their own', async (t) => {
  const clock = new FakeClock()
  const limits = new RateLimits({ clock }, { burst: 3, perSecond: 2 })
  const taken = (caller: string, times: number): boolean[] =>
    Array.from({ length: times }, () => limits.take(caller))
  t.same(taken('a', 4), [true, true, true, false])
  t.same(taken('b', 1), [true])
  await clock.advance(1000)
  t.same(taken('a', 3), [true, true, false])
  await clock.advance(3_600_000)
  t.same(taken('a', 4), [true, true, true, false])
})

t.test('the longest unused callers are forgotten first', async (t) => {
  const limits = new RateLimits(
    { clock: new FakeClock() },
    { burst: 1, perSecond: 0, maxCallers: 2 },
  )
  for (const caller of ['a', 'b']) t.equal(limits.take(caller), true)
  t.equal(limits.take('a'), false)
  t.equal(limits.take('c'), true)
  t.equal(limits.take('a'), false, 'a was used after b')
  t.equal(limits.take('b'), true, 'b was forgotten')
})
