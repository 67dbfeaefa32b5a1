import t from 'tap'
import { BodyReader } from '#agent/http1/body-reader.ts'
import { headDefaults, type Framing } from '#agent/http1/head.ts'

interface Body {
  readonly kind: Framing
  readonly length?: number
}

/** Reads a body that comes in pieces of `size` bytes; what goes on of it, framed and as content. */
function read({ kind, length = 0 }: Body, text: string, size: number) {
  const read = { content: '', framed: '', over: false, rest: '', problem: '' }
  for (const form of ['content', 'framed'] as const) {
    let passed = ''
    const sink = {
      onBody: (piece: Buffer) => void (passed += piece.toString('latin1')),
      onBodyText: (more: string) => void (passed += more),
    }
    const reader = new BodyReader({ sink }, headDefaults)
    reader.begin(kind, length, form)
    let at = 0
    while (!reader.isWhole && at < text.length) {
      const taken = reader.read(Buffer.from(text.slice(at, at + size), 'latin1'), 0)
      if (taken < 0) return { ...read, problem: reader.problem }
      at += taken
    }
    read[form] = passed
    read.over = reader.isWhole
    read.rest = text.slice(at)
  }
  return read
}

const chunked: Body = { kind: 'chunked' }
const sizes = [1, 2, 3, 5, 7, 1000]

t.test('BodyReader reads a length and leaves what follows', async (t) => {
  for (const size of sizes) {
    const result = read({ kind: 'length', length: 5 }, 'helloGET /', size)
    t.match(result, { content: 'hello', over: true, rest: 'GET /' }, `pieces of ${size}`)
  }
  t.match(read({ kind: 'none' }, 'x', 9), { content: '', over: true, rest: 'x' })
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

t.test(
  'BodyReader passes chunks on as they came, odd sizes and trailers written anew',
  async (t) => {
    const text = '05\r\nhello\r\n1\r\nx\r\n00\r\nX-Sum: 1\r\nHost: b\r\nX-B:  2 \r\n\r\nrest'
    const framed = '5\r\nhello\r\n1\r\nx\r\n0\r\nx-sum: 1\r\nx-b: 2\r\n\r\n'
    for (const size of sizes) {
      t.match(read(chunked, text, size), { over: true, rest: 'rest', framed, content: 'hellox' })
    }
    t.match(read(chunked, '0\r\nX: 1\r\n', 99), { over: false })
  },
)

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
  const reader = new BodyReader({ sink: { onBody() {}, onBodyText() {} } }, headDefaults)
  reader.begin('until-close', 0, 'content')
  t.equal(reader.read(Buffer.from('abc'), 0), 3)
  t.ok(reader.endOfInput())
  reader.begin('length', 2, 'content')
  t.notOk(reader.endOfInput())
  reader.begin('chunked', 0, 'content')
  t.notOk(reader.endOfInput())
})
