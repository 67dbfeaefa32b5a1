import t from 'tap'
import { StreamIds } from '#agent/http2/stream-ids.ts'

t.test('StreamIds numbers streams 1, 3, 5 until there are no more', async (t) => {
  const ids = new StreamIds()
  t.same([ids.next(), ids.next(), ids.next()], [1, 3, 5])
  t.equal(ids.highest, 5)
  const last = new StreamIds({ highest: 0x7ffffffd })
  t.equal(last.next(), 0x7fffffff)
  t.equal(last.next(), null)
})

t.test('StreamIds remembers how recent streams ended, and which were passed over', async (t) => {
  const ids = new StreamIds()
  t.equal(ids.standing(1), 'idle')
  for (const id of [1, 3, 5, 11]) ids.open(id)
  ids.close(1, 'finished')
  ids.close(3, 'reset-here')
  ids.close(5, 'reset-there')
  t.equal(ids.standing(1), 'finished')
  t.equal(ids.standing(3), 'reset-here')
  t.equal(ids.standing(5), 'reset-there')
  t.equal(ids.standing(7), 'skipped')
  t.equal(ids.standing(13), 'idle')
  t.equal(ids.standing(2), 'idle', 'a server opens none')
})

t.test('StreamIds forgets old streams and never mistakes them for new ones', async (t) => {
  const ids = new StreamIds()
  ids.open(1)
  ids.open(3)
  ids.close(3, 'finished')
  ids.open(3 + 2 * 4096)
  t.equal(ids.standing(3), 'forgotten')
  ids.close(1, 'reset-here')
  t.equal(ids.standing(1), 'forgotten', 'ended long after it was opened')
  t.equal(ids.standing(5), 'skipped')
  ids.open(0x7fffffff)
  t.equal(ids.standing(0x7ffffffd), 'skipped')
  t.equal(ids.standing(5), 'forgotten')
})
