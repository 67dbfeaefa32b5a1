import t from 'tap'
import { HeadInput } from '#agent/http1/head-input.ts'

const limits = { maxBytes: 65_536, maxFields: 100 }
const bytes = (text: string) => Buffer.from(text, 'latin1')

t.test('HeadInput finds a head wherever it is cut', async (t) => {
  const head = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
  for (let cut = 0; cut <= head.length; cut++) {
    const input = new HeadInput(limits)
    input.push(bytes(head.slice(0, cut)))
    if (cut < head.length) t.equal(input.takeHead(), null)
    input.push(bytes(`${head.slice(cut)}rest`))
    t.equal(input.takeHead(), 'GET / HTTP/1.1\r\nHost: a\r\n', `cut at ${cut}`)
    t.equal(input.takeAll()?.toString(), 'rest')
    t.equal(input.takeAll(), null)
  }
})

t.test('HeadInput gives heads that came together one by one', async (t) => {
  const input = new HeadInput(limits)
  input.push(bytes('A\r\n\r\nB\r\n\r\nC'))
  t.equal(input.takeHead(), 'A\r\n')
  t.equal(input.takeHead(), 'B\r\n')
  t.equal(input.takeHead(), null)
  t.equal(input.size, 1)
  input.push(bytes('\r\n\r\n'))
  t.equal(input.takeHead(), 'C\r\n')
  t.equal(input.size, 0)
})

t.test('HeadInput copies a head that comes byte by byte a bounded number of times', async (t) => {
  const input = new HeadInput(limits)
  let copied = 0
  const { copy } = Buffer.prototype
  Buffer.prototype.copy = function (...args: Parameters<typeof copy>) {
    const count = copy.apply(this, args)
    copied += count
    return count
  }
  t.teardown(() => (Buffer.prototype.copy = copy))
  const text = `X: ${'v'.repeat(60_000)}\r\n`
  for (const char of `${text}\r\n`) {
    input.push(bytes(char))
    const head = input.takeHead()
    if (head !== null) t.equal(head, text)
  }
  t.ok(copied < 6 * text.length, `${copied} bytes copied for ${text.length}`)
})

t.test('HeadInput refuses a head that is too large, whole or not', async (t) => {
  const large = { maxBytes: 20, maxFields: 100 }
  const whole = new HeadInput(large)
  whole.push(bytes(`${'a'.repeat(21)}\r\n\r\n`))
  t.match(whole.takeHead(), { kind: 'fault', reason: 'head-too-large' })
  const cut = new HeadInput(large)
  cut.push(bytes('a'.repeat(21)))
  t.match(cut.takeHead(), { kind: 'fault', reason: 'head-too-large' })
  const just = new HeadInput(large)
  just.push(bytes(`${'a'.repeat(20)}\r\n\r\n`))
  t.equal(just.takeHead(), `${'a'.repeat(20)}\r\n`)
})

t.test('HeadInput refuses a bare LF as soon as it comes', async (t) => {
  for (const text of ['GET / HTTP/1.1\nHost: a\n\n', '\n', 'a\r\n\n']) {
    const input = new HeadInput(limits)
    let answer: unknown = null
    for (const char of text) {
      input.push(bytes(char))
      answer ??= input.takeHead()
    }
    t.match(answer, { kind: 'fault', reason: 'bad-request' }, JSON.stringify(text))
  }
})

t.test('HeadInput passes over one empty line, and waits for its second half', async (t) => {
  const input = new HeadInput(limits)
  input.push(bytes('\r'))
  t.equal(input.skipEmptyLine(), false)
  input.push(bytes('\nGET'))
  t.equal(input.skipEmptyLine(), true)
  t.equal(input.first, 'G'.charCodeAt(0))
  const bare = new HeadInput(limits)
  bare.push(bytes('\rGET'))
  t.equal(bare.skipEmptyLine(), true)
  t.equal(bare.first, 0x0d, 'a bare CR is not passed over')
})
