import t from 'tap'
import { Hints } from '#agent/manifests/hints.ts'

t.test('Hints names each path once, and nothing after it was taken', async (t) => {
  const hints = new Hints()
  t.ok(hints.isEmpty)
  for (const path of ['a', 'b', 'a']) hints.add(path)
  t.notOk(hints.isEmpty)
  t.strictSame(hints.take(), { all: false, paths: new Set(['a', 'b']) })
  t.ok(hints.isEmpty)
  t.strictSame(hints.take(), { all: false, paths: new Set() })
})

t.test('a hint without a name means everything', async (t) => {
  const hints = new Hints()
  hints.add('a')
  hints.add(null)
  hints.add('b')
  t.strictSame(hints.take(), { all: true, paths: new Set() })
  hints.add('c')
  t.strictSame(hints.take(), { all: false, paths: new Set(['c']) })
})

t.test('more names than are kept mean everything: none is lost', async (t) => {
  const hints = new Hints()
  for (let i = 0; i < 512; i += 1) hints.add(`${i}`)
  hints.add('7')
  t.equal(hints.take().paths.size, 512, 'one that is kept already is no more')
  for (let i = 0; i < 513; i += 1) hints.add(`${i}`)
  t.strictSame(hints.take(), { all: true, paths: new Set() })
})
