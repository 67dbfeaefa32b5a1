import t from 'tap'
import { namesOf } from './failed-names.ts'

t.test('namesOf gives each failure a line of its own, however much it has to say', async (t) => {
  t.same(namesOf([]), [])
  const lines = namesOf([
    { where: 'check lint', why: 'x is\n  unused' },
    { where: 'test/a.test.ts › it works', why: 'y'.repeat(1000) },
  ])
  t.same(lines.slice(0, 2), ['\nfailed:', '  check lint: x is unused'])
  t.equal(lines.length, 3)
  t.match(lines[2], /^ {2}test\/a\.test\.ts › it works: y+…$/)
  t.ok((lines[2] ?? '').length <= 301)
})
