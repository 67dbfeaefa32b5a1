import * as fc from 'fast-check'
import t from 'tap'
import { queryOf, readRequestPath } from '#shared/route/request-path.ts'

t.test('readRequestPath takes plain paths as they are', async (t) => {
  for (const path of ['/', '/a', '/a/', "/a-b_c.d~e!$&'()*+,=:@/f", '/.hidden', '/a..b', '/...'])
    t.match(readRequestPath(path), { problem: '', text: path }, path)
  t.match(readRequestPath('/a?b=//../%2f;#'), { problem: '', text: '/a' }, 'a query is no path')
  t.match(readRequestPath('*'), { problem: '', text: '*' })
})

t.test('readRequestPath decodes what has one reading', async (t) => {
  const cases = {
    '/users/joe%40example.com': '/users/joe@example.com',
    '/a%20b': '/a b',
    '/12%3A30': '/12:30',
    '/100%25': '/100%',
    '/caf%C3%A9': '/café',
    '/%E6%97%A5': '/日',
    '/%f0%9f%98%80': '/😀',
    '/a|b[c]{d}"<>^`': '/a|b[c]{d}"<>^`',
  }
  for (const [raw, text] of Object.entries(cases))
    t.match(readRequestPath(raw), { problem: '', text }, raw)
})

t.test('readRequestPath names what has several readings', async (t) => {
  const cases: Readonly<Record<string, RegExp>> = {
    'http://a/b': /begin with/,
    '': /begin with/,
    '//admin': /empty segment/,
    '/a//b': /empty segment/,
    '/info/../private': /dot segment/,
    '/a/..': /dot segment/,
    '/./a': /dot segment/,
    '/a/.': /dot segment/,
    '/a\\b': /backslash/,
    '/..;/admin': /parameters/,
    '/admin;a=b': /parameters/,
    '/admin#x': /fragment/,
    '/a%2fb': /hides "\/"/,
    '/a%5Cb': /hides/,
    '/a%3fb': /hides/,
    '/a%23b': /hides/,
    '/a%3bb': /hides/,
    '/%61dmin': /needs none/,
    '/%2e%2e/a': /needs none/,
    '/a%7Eb': /needs none/,
    '/a%00': /control/,
    '/a%0d%0a': /control/,
    '/a%7f': /control/,
    '/a%C2%85': /control/,
    '/%252e%252e/': /twice/,
    '/%2541': /twice/,
    '/%25%32%65': /needs none/,
    '/%': /no escape/,
    '/%a': /no escape/,
    '/%zz': /no escape/,
    '/%C0%AE': /UTF-8/,
    '/%C0%AF': /UTF-8/,
    '/%E0%80%AF': /UTF-8/,
    '/%ED%A0%80': /UTF-8/,
    '/%FF': /UTF-8/,
    '/%E9t': /UTF-8/,
    '/%C3': /UTF-8/,
    '/a%EF%BC%8Fb': /resembles "\/"/,
    '/%EF%BC%8E%EF%BC%8E/a': /resembles/,
    '/%E2%80%A5/a': /resembles "\.\."/,
  }
  for (const [raw, problem] of Object.entries(cases)) {
    const path = readRequestPath(raw)
    t.match(path.problem, problem, raw)
    t.equal(path.text, '', raw)
  }
})

t.test('readRequestPath folds what a forgiving service takes for the same', async (t) => {
  for (const raw of ['/Admin', '/ADMIN/', '/admin.', '/adm%C4%B1n', '/admin%20', '/%EF%BD%81dmin'])
    t.equal(readRequestPath(raw).folded, '/admin', raw)
  t.equal(readRequestPath('/').folded, '/')
  t.equal(readRequestPath('/a./b').folded, '/a/b')
  t.equal(readRequestPath('/ad%E2%80%8Bmin').folded, '/admin', 'a zero-width blank')
})

t.test('a path that readRequestPath takes is the same to a decoder that resolves', async (t) => {
  const piece = fc.constantFrom(
    '/',
    '.',
    '..',
    '%2e',
    '%2F',
    '%5c',
    '\\',
    ';a',
    'a',
    'B',
    '%61',
    '%25',
    '%00',
    '%C3%A9',
    '?',
    '#',
    '%',
    '@',
    '%40',
    '%20',
    '//',
    '%252e',
    '日',
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const raw = `/${pieces.join('')}`
      const path = readRequestPath(raw)
      if (path.problem !== '') return
      const plain = raw.split('?')[0] ?? ''
      t.equal(decodeURIComponent(plain), path.text)
      t.equal(decodeURIComponent(new URL(`http://h${plain}`).pathname), path.text)
      t.notOk(/\/\/|\/\.\.?(\/|$)|[\\;?#]/.test(path.text), path.text)
    }),
    { numRuns: 2000, seed: 7 },
  )
})

t.test('queryOf answers what stands behind the first question mark', async (t) => {
  t.equal(queryOf('/a?b?c'), 'b?c')
  t.equal(queryOf('/a'), '')
})
