import t from 'tap'
import { begins, isPlainlySpelt, NameShelf } from '#agent/http1/name-shelf.ts'

const names = ['te', 'host', 'x-real-ip', 'x-mesh-reason', 'content-type', 'content-range', 'a1-2']
const shelf = new NameShelf(names.map((name) => [name, name]))

/** Looks a name up as it stands in a head, with something before and behind it. */
function find(name: string): string | undefined {
  const text = `x: y\r\n${name}: z\r\n`
  return shelf.find(text, 6, 6 + name.length)
}

t.test('NameShelf finds every name on it, in any case', async (t) => {
  for (const name of names) {
    t.equal(find(name), name)
    t.equal(find(name.toUpperCase()), name)
  }
})

t.test('NameShelf finds a name whatever stands for its hyphens', async (t) => {
  const odd = "!#$%&'*+.^_`|~"
  for (const char of odd) {
    t.equal(find(`x${char}real-ip`), 'x-real-ip', char)
    t.equal(find(`X${char}REAL${char}IP`), 'x-real-ip', char)
    t.equal(find(`a1${char}2`), 'a1-2', char)
  }
})

t.test('NameShelf finds nothing else', async (t) => {
  const others = `t tea hos hosts xhost x-real-i x-real-ipp xrealip x--real-ip -host h-st content-typo
    content-rang a1-3 a1-22 b1-2 __proto__ constructor ${'x'.repeat(31)} ${'x'.repeat(32)}
    ${'x'.repeat(70_000)}`
  for (const name of others.split(/\s+/)) t.equal(find(name), undefined, name.slice(0, 40))
})

t.test('NameShelf tells apart what shares its length and first letter', async (t) => {
  const twins = new NameShelf([
    ['abc', 1],
    ['abd', 2],
    ['acc', 3],
  ])
  const found = ['abc', 'ABD', 'acc', 'add'].map((name) => twins.find(name, 0, 3))
  t.same(found, [1, 2, 3, undefined])
})

t.test('NameShelf takes no name that it would not find', async (t) => {
  t.throws(() => new NameShelf([['x'.repeat(32), 1]]), /too long/)
  t.doesNotThrow(() => new NameShelf([['x'.repeat(31), 1]]))
})

t.test('begins stops at the end of the text', async (t) => {
  t.ok(begins('X_Mesh-Source', 0, 'x-mesh-'))
  t.notOk(begins('x-mes', 0, 'x-mesh-'))
  t.notOk(begins('x-mesh', 6, 'x'))
})

t.test('isPlainlySpelt takes hyphens and nothing in their place', async (t) => {
  t.ok(isPlainlySpelt('Content-Length', 0, 14))
  t.ok(isPlainlySpelt('_x_', 1, 2), 'what is outside does not count')
  for (const name of ['content_length', 'content.length', 'content~length']) {
    t.notOk(isPlainlySpelt(name, 0, name.length), name)
  }
})
