import { deepStrictEqual, equal } from 'node:assert/strict'
import * as fc from 'fast-check'
import t from 'tap'
import { joinPointer, readJson, splitPointer } from '#shared/schema/json-reader.ts'

function oracle(text: string): { readonly ok: boolean; readonly value: unknown } {
  try {
    return { ok: true, value: JSON.parse(text) }
  } catch {
    return { ok: false, value: null }
  }
}

void t.test('readJson reads every JSON value as JSON.parse does', (t) => {
  const shape = fc.tuple(fc.jsonValue({ maxDepth: 6 }), fc.constantFrom(0, 1, 2, '\t'))
  fc.assert(
    fc.property(shape, ([value, indent]) => {
      const text = JSON.stringify(value, null, indent)
      const reading = readJson(text)
      deepStrictEqual(reading.faults, [])
      deepStrictEqual(reading.value, JSON.parse(text))
    }),
    { seed: 1, numRuns: 300 },
  )
  t.end()
})

void t.test('readJson accepts and refuses the same texts as JSON.parse', (t) => {
  const pieces = '{ } [ ] , : " \\ \\u00e9 \\ud83d \\x a 0 -0 01 1. .5 1e5 -1.5E-3 true nul null \n'
  const piece = fc.constantFrom(
    ...pieces.split(' '),
    ' ',
    '"k"',
    '"k":',
    '\u0001',
    '\u0085',
    '\u{1f600}',
  )
  const soup = fc.array(piece, { maxLength: 12 }).map((parts) => parts.join(''))
  const json = fc.json({ maxDepth: 4, stringUnit: 'grapheme' })
  const mutated = fc
    .tuple(json, fc.nat(), fc.nat({ max: 3 }), fc.oneof(fc.constant(''), piece))
    .map(([text, at, cut, put]) => {
      const from = at % (text.length + 1)
      return text.slice(0, from) + put + text.slice(from + cut)
    })
  let accepted = 0
  let refused = 0
  fc.assert(
    fc.property(fc.oneof(soup, mutated), (text) => {
      const mine = readJson(text)
      const theirs = oracle(text)
      if (mine.faults.some((fault) => fault.rule !== 'json-syntax')) return
      equal(mine.faults.length === 0, theirs.ok)
      if (theirs.ok) deepStrictEqual(mine.value, theirs.value)
      if (theirs.ok) accepted += 1
      else refused += 1
    }),
    { seed: 2, numRuns: 3000 },
  )
  t.ok(accepted > 200, `${accepted} accepted`)
  t.ok(refused > 200, `${refused} refused`)
  t.end()
})

void t.test('readJson says what is wrong and where', (t) => {
  const cases: readonly (readonly [string, number, RegExp, RegExp])[] = [
    ['', 0, /missing before the end of the file/, /^$/],
    ['{"a": 1,}', 8, /comma before the closing/, /remove/],
    ['[1, 2,]', 6, /comma before the closing/, /remove/],
    ['{a: 1}', 1, /expected a key but found "a"/, /quoted/],
    ["{'a': 1}", 1, /expected a key/, /quoted/],
    ['{"a": yes}', 6, /"yes" is not a value/, /quote/],
    ["['x']", 1, /single quotes/, /double/],
    ['{"a" 1}', 5, /expected : after the key/, /^$/],
    ['{"a": 1 "b": 2}', 8, /expected , or } but found "\\""/, /^$/],
    ['[1 2]', 3, /expected , or \] but found "2"/, /^$/],
    ['{"a": "b\n"}', 6, /no closing quote/, /^$/],
    ['"a\\q"', 2, /unknown escape "\\\\q"/, /\\\\/],
    ['"\\u12"', 1, /four hexadecimal/, /^$/],
    ['"\t"', 1, /control character "\\t"/, /u00XX/],
    ['{} {}', 3, /unexpected text after/, /one JSON value/],
    ['{ // no\n}', 2, /a comment/, /no comments/],
    ['[1, /* no */ 2]', 4, /a comment/, /no comments/],
  ]
  for (const [text, offset, message, hint] of cases) {
    const { faults } = readJson(text)
    t.match(faults, [{ rule: 'json-syntax', offset, message, hint }], JSON.stringify(text))
    t.equal(faults.length, 1)
  }
  t.end()
})

void t.test('a key given twice is refused at its second place, each time it happens', (t) => {
  const { faults } = readJson('{"a": {"x": 1}, "b": 1, "a": {"x": 2}, "b": 2}')
  t.match(faults, [
    { rule: 'duplicate-key', offset: 24, pointer: '/a' },
    { rule: 'duplicate-key', offset: 39, pointer: '/b' },
  ])
  t.equal(faults.length, 2)
  t.end()
})

void t.test('the key __proto__ is refused and pollutes nothing, however it is spelt', (t) => {
  for (const key of ['__proto__', '\\u005f_proto__']) {
    const { faults, value } = readJson(`{"${key}": {"polluted": true}}`)
    t.match(faults, [{ rule: 'forbidden-key' }])
    t.equal(Object.getPrototypeOf(value), Object.prototype)
    t.notOk(Reflect.get(Object.prototype, 'polluted'))
  }
  t.strictSame(readJson('{"constructor": 1, "toString": 2}').value, { constructor: 1, toString: 2 })
  t.strictSame(readJson('{"constructor": 1, "toString": 2}').faults, [])
  t.end()
})

void t.test('nesting is bounded', (t) => {
  t.strictSame(readJson(`${'['.repeat(32)}${']'.repeat(32)}`).faults, [])
  t.match(readJson('['.repeat(33)).faults, [{ rule: 'too-deep', offset: 32 }])
  t.match(readJson('{"a":'.repeat(60_000)).faults, [{ rule: 'too-deep' }])
  t.end()
})

void t.test('every key and value has its place', (t) => {
  const text = '{"a": [10, {"b/c": true}], "~": null}'
  const { keys, values } = readJson(text)
  const at = (offset: number | undefined): string => text.slice(offset)
  t.match(at(values.get('')), /^\{"a"/)
  t.match(at(keys.get('/a')), /^"a"/)
  t.match(at(values.get('/a')), /^\[10/)
  t.match(at(values.get('/a/0')), /^10/)
  t.match(at(keys.get('/a/1/b~1c')), /^"b\/c"/)
  t.match(at(values.get('/a/1/b~1c')), /^true/)
  t.match(at(values.get('/~0')), /^null/)
  t.end()
})

void t.test('joinPointer and splitPointer are each other’s reverse', (t) => {
  fc.assert(
    fc.property(fc.array(fc.string()), (steps) => {
      deepStrictEqual(splitPointer(steps.reduce(joinPointer, '')), steps)
    }),
    { seed: 3, numRuns: 100 },
  )
  t.end()
})
