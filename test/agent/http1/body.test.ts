import t from 'tap'
import { BodyReader } from '#agent/http1/body.ts'
import { linesOf } from '#agent/http1/field-lines.ts'
import type { BodyFraming } from '#agent/http1/head.ts'

const limits = { maxBytes: 65_536, maxFields: 100 }

interface Read {
  readonly content: string
  readonly contents: number
  readonly over: boolean
  readonly rest: string
  readonly problem: string
  readonly trailers: readonly (readonly [name: string, value: string])[]
}

/** Reads a body that comes in pieces of `size` bytes. */
function read(framing: BodyFraming, text: string, size: number): Read {
  const reader = new BodyReader(limits)
  reader.begin(framing)
  let content = ''
  let contents = 0
  let at = 0
  while (reader.open && at < text.length) {
    const piece = Buffer.from(text.slice(at, at + size), 'latin1')
    const fed = reader.feed(piece)
    if (typeof fed !== 'number') {
      return { content, contents, over: false, rest: '', problem: fed.problem, trailers: [] }
    }
    if (reader.content !== null) contents++
    content += reader.content?.toString('latin1') ?? ''
    at += fed
  }
  const trailers = linesOf(reader.trailers)
  return { content, contents, over: !reader.open, rest: text.slice(at), problem: '', trailers }
}

const chunked: BodyFraming = { kind: 'chunked' }
const sizes = [1, 2, 3, 5, 7, 1000]

t.test('BodyReader reads a length and leaves what follows', async (t) => {
  for (const size of sizes) {
    const result = read({ kind: 'length', length: 5 }, 'helloGET /', size)
    t.match(result, { content: 'hello', over: true, rest: 'GET /' }, `pieces of ${size}`)
  }
  t.match(read({ kind: 'length', length: 0 }, 'x', 9), { content: '', over: true, rest: 'x' })
  t.match(read({ kind: 'none' }, 'x', 9), { content: '', over: true, rest: 'x' })
  t.match(read({ kind: 'length', length: 9 }, 'hello', 9), { content: 'hello', over: false })
})

t.test('BodyReader takes chunks apart however they are cut', async (t) => {
  const text = '5\r\nhello\r\n00a\r\n, and more\r\n1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\nGET /'
  for (const size of sizes) {
    const result = read(chunked, text, size)
    t.match(result, { content: 'hello, and more\r\n', over: true, rest: 'GET /' }, `by ${size}`)
  }
})

t.test('BodyReader joins the chunks of a piece to one content', async (t) => {
  const text = `${'1\r\nx\r\n'.repeat(1000)}0\r\n\r\n`
  t.match(read(chunked, text, 1e6), { content: 'x'.repeat(1000), contents: 1, over: true })
})

t.test('BodyReader gives trailers, and only when they are whole', async (t) => {
  const text = '1\r\nx\r\n0\r\nX-Sum: 1\r\nX-B:  2 \r\n\r\nrest'
  for (const size of sizes) {
    const result = read(chunked, text, size)
    t.match(result, {
      over: true,
      rest: 'rest',
      trailers: [
        ['x-sum', '1'],
        ['x-b', '2'],
      ],
    })
  }
  t.match(read(chunked, '0\r\nX: 1\r\n', 99), { over: false })
})

t.test('BodyReader refuses chunk framing that is not exact', async (t) => {
  const wrong = [
    '\r\n',
    ' 1\r\nx\r\n0\r\n\r\n',
    '1 \r\nx\r\n0\r\n\r\n',
    '1;a=b\r\nx\r\n0\r\n\r\n',
    '1;\r\nx\r\n0\r\n\r\n',
    '0x1\r\nx\r\n0\r\n\r\n',
    '+1\r\nx\r\n0\r\n\r\n',
    '-1\r\nx\r\n0\r\n\r\n',
    'g\r\n',
    '1\nx\r\n0\r\n\r\n',
    '1\rx\r\n0\r\n\r\n',
    '1\r\nxy\r\n0\r\n\r\n',
    '1\r\nx\n0\r\n\r\n',
    '1\r\nx\rx0\r\n\r\n',
    '1\r\nx0\r\n\r\n',
    '1\r\nx0\n0\r\n\r\n',
    '1\r\nx\r00\r\n\r\n',
    '1000000000000\r\n',
    'fffffffffffffffff\r\n',
    '0\r\nX 1\r\n\r\n',
    '0\r\n folded: 1\r\n\r\n',
    '0\r\nX: a\nY: b\r\n\r\n',
    '0\r\n\n',
    `0\r\n${'X: 1\r\n'.repeat(101)}\r\n`,
    `0\r\nX: ${'1'.repeat(65_536)}\r\n\r\n`,
  ]
  for (const text of wrong) {
    for (const size of [1, 1e6]) {
      t.not(read(chunked, text, size).problem, '', `${JSON.stringify(text.slice(0, 60))} ${size}`)
    }
  }
})

t.test('BodyReader is done at the end of input only when that ends the body', async (t) => {
  const reader = new BodyReader(limits)
  reader.begin({ kind: 'until-close' })
  t.equal(reader.feed(Buffer.from('abc')), 3)
  t.equal(reader.content?.toString(), 'abc')
  t.ok(reader.endOfInput())
  t.notOk(reader.open)
  reader.begin({ kind: 'length', length: 2 })
  t.notOk(reader.endOfInput())
  reader.begin(chunked)
  t.notOk(reader.endOfInput())
})
