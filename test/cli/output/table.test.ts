import t from 'tap'
import { duration, pairs, table } from '#cli/output/table.ts'

t.test('table aligns columns and says so when there is nothing', async (t) => {
  t.equal(table(['A', 'LONG'], [['xyz', '1']], 'none'), 'A    LONG\nxyz  1\n')
  t.equal(table(['A'], [], 'none'), 'none\n')
})

t.test('table and pairs let no name steer the terminal', async (t) => {
  const evil = 'a\u001b[2Jb\u202ec\r\nd'
  t.equal(pairs([['x', evil]]), 'x  a?[2Jb?c??d\n')
  t.notMatch(table(['A'], [[evil]], ''), '\u001b')
})

t.test('duration says the two largest units', async (t) => {
  t.same([999, 1000, 61_000, 3_600_000, 90_061_000, 86_400_000 + 5000].map(duration), [
    '0 s',
    '1 s',
    '1 min 1 s',
    '1 h',
    '1 d 1 h',
    '1 d',
  ])
})
