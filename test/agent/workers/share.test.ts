import t from 'tap'
import { shareOf } from '#agent/workers/share.ts'

t.test('shareOf shares a limit out whole, and gives everybody something', async (t) => {
  const shares = (limit: number, workers: number): readonly number[] =>
    Array.from({ length: workers }, (_, index) => shareOf(limit, index, workers))
  t.same(shares(10, 4), [3, 3, 2, 2])
  t.same(shares(20_000, 1), [20_000])
  t.same(shares(2, 4), [1, 1, 1, 1])
})
