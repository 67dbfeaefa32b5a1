import t from 'tap'
import { maxDocumentBytes, readDocument } from '#shared/schema/json-document.ts'

const read = (content: string | Uint8Array) => readDocument('x.json', Buffer.from(content))

void t.test('readDocument turns offsets into lines and columns', (t) => {
  t.match(read('{\n  "a": 1,\r\n  "b": nope\n}'), {
    ok: false,
    problems: [{ file: 'x.json', line: 3, column: 8, rule: 'json-syntax' }],
  })
  t.match(read('{\n"a":1,\n'), { ok: false, problems: [{ line: 3, column: 1 }] })
  t.end()
})

void t.test('a document places keys, values, and what is missing in the value above', (t) => {
  const reading = read('{\n  "a": {"b": 1}\n}')
  const document = reading.ok ? reading.document : null
  const at = (pointer: string, at: 'key' | 'value') =>
    document?.problem(pointer, { rule: 'r', message: 'm', at })
  t.match(at('/a', 'key'), { line: 2, column: 3, path: '/a', hint: '' })
  t.match(at('/a', 'value'), { line: 2, column: 8 })
  t.match(at('/a/b', 'value'), { line: 2, column: 14 })
  t.match(at('/a/missing/deep', 'value'), { line: 2, column: 8, path: '/a/missing/deep' })
  t.match(at('/none', 'key'), { line: 1, column: 1 })
  t.equal(document?.has('/a/b'), true)
  t.equal(document?.has('/a/c'), false)
  t.end()
})

void t.test('bytes that are not UTF-8 are refused where they stand', (t) => {
  const bad = Buffer.concat([Buffer.from('{"é": 1,\n "ab'), Buffer.from([0xff]), Buffer.from('"}')])
  t.match(read(bad), { ok: false, problems: [{ line: 2, column: 5, rule: 'not-utf8' }] })
  t.match(read(new Uint8Array([0xc3])), { ok: false, problems: [{ line: 1, column: 1 }] })
  t.end()
})

void t.test('a document past the size limit is refused unread', (t) => {
  t.equal(read(`"${'a'.repeat(maxDocumentBytes - 2)}"`).ok, true)
  t.match(read(`"${'a'.repeat(maxDocumentBytes - 1)}"`), {
    ok: false,
    problems: [{ line: 0, rule: 'too-large', message: /65537 bytes/ }],
  })
  t.end()
})

void t.test('a byte order mark is forgiven', (t) => {
  t.match(read('\ufeff{"a": 1}'), { ok: true, document: { value: { a: 1 } } })
  t.end()
})
