import t from 'tap'
import { HandOut } from '#agent/workers/hand-out.ts'

function making() {
  const made: string[] = []
  const note = (line: string): string => {
    made.push(line)
    return line
  }
  const handOut = new HandOut<{ readonly n: number }>({
    whole: ({ n }) => note(`${n}`),
    changes: [
      { since: 3, make: (before, after) => note(`${before.n}=>${after.n}`) },
      { since: 2, make: (before, after) => note(`${before.n}->${after.n}`) },
    ],
  })
  return { handOut, made }
}

t.test('HandOut tells the whole first, then what changed, and nothing twice', async (t) => {
  const { handOut } = making()
  const reader = {}
  t.equal(handOut.lineFor(reader, 2), null, 'nothing to tell yet')
  handOut.set({ n: 1 })
  t.equal(handOut.lineFor(reader, 2), '1')
  t.equal(handOut.lineFor(reader, 2), null)
  handOut.set({ n: 2 })
  handOut.set({ n: 3 })
  t.equal(handOut.lineFor(reader, 2), '1->3', 'from what the reader has, whatever it missed')
})

t.test('HandOut tells who takes no changes the whole every time', async (t) => {
  const { handOut } = making()
  const reader = {}
  handOut.set({ n: 1 })
  t.equal(handOut.lineFor(reader, 1), '1')
  handOut.set({ n: 2 })
  t.equal(handOut.lineFor(reader, 1), '2')
})

t.test('HandOut makes each form once for all readers', async (t) => {
  const { handOut, made } = making()
  const readers = [{}, {}, {}]
  handOut.set({ n: 1 })
  for (const reader of readers) handOut.lineFor(reader, 2)
  handOut.set({ n: 2 })
  for (const reader of readers) handOut.lineFor(reader, 2)
  t.same(made, ['1', '1->2'])
  handOut.set({ n: 3 })
  const lines = readers.map((reader, at) => handOut.lineFor(reader, at === 0 ? 2 : 3))
  t.same(lines, ['2->3', '2=>3', '2=>3'], 'in the newest form that each understands')
  t.same(made.slice(2), ['2->3', '2=>3'])
})
