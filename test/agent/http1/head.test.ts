import t from 'tap'
import { headDefaults } from '#agent/http1/head-fault.ts'
import { linesOf as linesIn, type Section } from '#agent/http1/field-lines.ts'
import type { RequestHead, ResponseHead } from '#agent/http1/head.ts'
import { readRequestHead, readResponseHead, readTrailers } from '#agent/http1/head.ts'
import { RequestView } from '#agent/http1/request-view.ts'

const request = (...lines: string[]) =>
  readRequestHead(lines.map((line) => `${line}\r\n`).join(''), headDefaults)
const get = (...lines: string[]) => request('GET / HTTP/1.1', 'Host: orders.mesh', ...lines)
const response = (...lines: string[]) =>
  readResponseHead(lines.map((line) => `${line}\r\n`).join(''), 'GET', headDefaults)

function wires(fields: Section): string[] {
  return linesIn(fields).map(([name, value]) => `${name}: ${value}`)
}

function linesOf(head: RequestHead | ResponseHead | { readonly kind: 'fault' }): string[] {
  return head.kind === 'fault' ? [] : wires(head.fields)
}

t.test('readRequestHead takes what is unambiguous', async (t) => {
  t.match(request('GET /a?b=c%20d HTTP/1.1', 'Host: orders.mesh:80', 'X-A:  v w \t'), {
    kind: 'request',
    method: 'GET',
    target: '/a?b=c%20d',
    authority: 'orders.mesh:80',
    absolute: false,
    http11: true,
    body: { kind: 'none' },
    keepAlive: true,
    nominated: null,
    upgrade: '',
    expectsContinue: false,
    connectionAuth: false,
  })
  const spaced = request('GET / HTTP/1.1', 'Host: a', 'X-A:  v w \t', 'X-Latin: caf\xe9')
  t.same(linesOf(spaced), ['host: a', 'x-a: v w', 'x-latin: caf\xe9'])
  t.match(request('OPTIONS * HTTP/1.1', 'Host: a'), { target: '*', absolute: false })
  t.match(request('GET http://Orders.mesh/x HTTP/1.1', 'Host: orders.MESH'), {
    target: '/x',
    authority: 'Orders.mesh',
    absolute: true,
  })
  t.match(request('GET http://a?b HTTP/1.1', 'Host: a'), { target: '/?b' })
  t.match(request('GET http://a HTTP/1.1', 'Host: a'), { target: '/' })
  t.match(request('OPTIONS http://a HTTP/1.1', 'Host: a'), { target: '*' })
  t.match(request('GET / HTTP/1.1', 'Host: [::1]:8080'), { authority: '[::1]:8080' })
  t.match(request('GET / HTTP/1.1', 'Host:'), { authority: '' })
  t.match(request('PATCH //a/../b;c=d%2f HTTP/1.1', 'Host: a'), { target: '//a/../b;c=d%2f' })
  t.same(linesOf(get('X-Empty:', '__proto__: x')), [
    'host: orders.mesh',
    'x-empty: ',
    '__proto__: x',
  ])
})

t.test('readRequestHead leaves out what Connection names, wherever that stands', async (t) => {
  const lines = ['X-A: 1', 'connection: x-b, X-A ,close,te', 'x-B:2', 'X-a:  3', 'X-AB: 4']
  const head = get(...lines)
  t.same(linesOf(head), ['host: orders.mesh', 'connection: x-b, X-A ,close,te', 'x-ab: 4'])
  t.match(head, { keepAlive: false })
  t.same(linesOf(response('HTTP/1.1 200 OK', ...lines)).slice(1), ['x-ab: 4'])
})

t.test('readRequestHead knows the fields that matter however they are written', async (t) => {
  t.match(get('cOnTeNt-LeNgTh:\t5 \t'), { body: { kind: 'length', length: 5 } })
  t.match(get('Content_Length: 5', 'Transfer.Encoding: chunked'), { body: { kind: 'none' } })
  t.match(get('X-Request-ID: a', 'x-request-id: b'), { requestId: 'a' })
  t.match(get('X_Request_ID: a'), { requestId: '' })
  t.match(response('HTTP/1.1 503 No', 'X-Mesh-Reason:draining'), { meshReason: 'draining' })
  t.match(response('HTTP/1.1 503 No', 'X-Mesh_Reason: draining'), { meshReason: '' })
  t.match(response('HTTP/1.1 304 No', 'Content-Length: 7'), { contentLength: 7 })
})

t.test('readRequestHead reads lengths, versions and the wish to stay', async (t) => {
  t.match(get('Content-Length: 007'), { body: { kind: 'length', length: 7 } })
  t.match(get('Content-Length: 0'), { body: { kind: 'none' } })
  t.match(get('TRANSFER-ENCODING: Chunked'), { body: { kind: 'chunked' } })
  t.match(get('Connection: close'), { keepAlive: false })
  t.match(get('Connection: keep-alive, close'), { keepAlive: false })
  t.match(request('GET / HTTP/1.0'), { http11: false, keepAlive: false, authority: '' })
  t.match(request('GET / HTTP/1.0', 'Connection: Keep-Alive'), { keepAlive: true })
  t.match(get('Expect: 100-Continue'), { expectsContinue: true })
  t.match(request('GET / HTTP/1.0', 'Expect: 100-continue'), { expectsContinue: false })
  const nominating = get('Connection: X-A, x-b ,, close')
  t.same(nominating.kind === 'request' && nominating.nominated, new Set(['x-a', 'x-b']))
})

t.test('readRequestHead knows authentication that is bound to the connection', async (t) => {
  for (const value of ['NTLM abc', 'Negotiate', 'negotiate YII=']) {
    t.match(get(`Authorization: ${value}`), { connectionAuth: true }, value)
  }
  for (const value of ['Basic NTLM', 'Bearer x']) {
    const bound = value === 'Basic NTLM'
    t.match(get(`Authorization: ${value}`), { connectionAuth: bound }, value)
  }
  t.match(response('HTTP/1.1 401 No', 'WWW-Authenticate: Basic realm="x", Negotiate'), {
    connectionAuth: true,
  })
})

t.test('readRequestHead offers no other version of HTTP as an upgrade', async (t) => {
  const up = (value: string) => get('Connection: Upgrade, HTTP2-Settings', `Upgrade: ${value}`)
  t.match(up('websocket'), { upgrade: 'websocket' })
  t.match(up('h2c'), { upgrade: '' })
  t.match(up('h2c, websocket, HTTP/2.0, h2c-14'), { upgrade: 'websocket' })
  t.match(get('Upgrade: websocket'), { upgrade: '' }, 'not without Connection: upgrade')
  t.match(up('web socket'), { kind: 'fault' })
  t.match(
    request('GET / HTTP/1.0', 'Connection: upgrade', 'Upgrade: websocket'),
    { upgrade: '' },
    'not in HTTP/1.0',
  )
})

t.test('readRequestHead refuses what two programs could read differently', async (t) => {
  const host = 'Host: orders.mesh'
  const ambiguous: readonly (readonly string[])[] = [
    // request lines
    [''],
    ['GET /'],
    ['GET  / HTTP/1.1', host],
    ['GET / HTTP/1.1 ', host],
    ['GET /  HTTP/1.1', host],
    [' GET / HTTP/1.1', host],
    ['GET\t/ HTTP/1.1', host],
    ['GET / http/1.1', host],
    ['GET / HTTP/1.10', host],
    ['GET / HTTP/2.0', host],
    ['GET / HTTP/1.2', host],
    ['GET / HTTP/0.9', host],
    ['G(T / HTTP/1.1', host],
    ['GET /a b HTTP/1.1', host],
    ['GET /\xe9 HTTP/1.1', host],
    ['GET /\x00 HTTP/1.1', host],
    ['GET /\x7f HTTP/1.1', host],
    ['GET /a#b HTTP/1.1', host],
    ['GET * HTTP/1.1', host],
    ['GET a HTTP/1.1', host],
    ['GET orders.mesh:80 HTTP/1.1', host],
    ['GET https://orders.mesh/ HTTP/1.1', host],
    ['GET http:///x HTTP/1.1', host],
    ['GET http://user@orders.mesh/ HTTP/1.1', 'Host: user@orders.mesh'],
    ['GET http://other.mesh/ HTTP/1.1', host],
    ['GET http://orders.mesh:80/ HTTP/1.1', host],
    ['GET http://orders.mesh/ HTTP/1.1', 'Host:'],
    ['GET http://orders.mesh#a HTTP/1.1', host],
    ['GET http://orders.mesh/ HTTP/1.1'],
    // Host
    ['GET / HTTP/1.1'],
    ['GET / HTTP/1.1', host, host],
    ['GET / HTTP/1.0', host, 'host: other.mesh'],
    ['GET / HTTP/1.1', 'Host: a b'],
    ['GET / HTTP/1.1', 'Host: a,b'],
    ['GET / HTTP/1.1', 'Host: a/b'],
    ['GET / HTTP/1.1', 'Host: a@b'],
    ['GET / HTTP/1.1', 'Host: a:b'],
    ['GET / HTTP/1.1', 'Host: a:123456'],
    ['GET / HTTP/1.1', 'Host: \xe9'],
    ['GET / HTTP/1.1', 'Host: a\xa0'],
    // field lines
    ['GET / HTTP/1.1', ' Host: a'],
    ['GET / HTTP/1.1', host, 'X-A : b'],
    ['GET / HTTP/1.1', host, 'X-A\t: b'],
    ['GET / HTTP/1.1', host, ': b'],
    ['GET / HTTP/1.1', host, 'X-A'],
    ['GET / HTTP/1.1', host, 'X A: b'],
    ['GET / HTTP/1.1', host, 'X\x00: b'],
    ['GET / HTTP/1.1', host, 'X\xe9: b'],
    ['GET / HTTP/1.1', host, 'X-A: b', ' folded'],
    ['GET / HTTP/1.1', host, 'X-A: b', '\tfolded'],
    ['GET / HTTP/1.1', host, 'X-A: \x00'],
    ['GET / HTTP/1.1', host, 'X-A: b\rX-B: c'],
    ['GET / HTTP/1.1', host, 'X-A: b\nX-B: c'],
    ['GET / HTTP/1.1', host, 'X-A: b\r'],
    ['GET / HTTP/1.1', host, 'X-A: \x7f'],
    ['GET / HTTP/1.1', host, 'X-A: \x0b'],
    // framing
    ['POST / HTTP/1.1', host, 'Content-Length: 1', 'Content-Length: 1'],
    ['POST / HTTP/1.1', host, 'Content-Length: 1, 1'],
    ['POST / HTTP/1.1', host, 'Content-Length:'],
    ['POST / HTTP/1.1', host, 'Content-Length: +1'],
    ['POST / HTTP/1.1', host, 'Content-Length: -1'],
    ['POST / HTTP/1.1', host, 'Content-Length: 0x1'],
    ['POST / HTTP/1.1', host, 'Content-Length: 1 '.concat('2')],
    ['POST / HTTP/1.1', host, 'Content-Length: 1.0'],
    ['POST / HTTP/1.1', host, 'Content-Length: 1\xa0'],
    ['POST / HTTP/1.1', host, `Content-Length: ${'9'.repeat(16)}`],
    ['POST / HTTP/1.1', host, 'Content-Length: 1', 'Transfer-Encoding: chunked'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', 'Content-Length: 0'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding: chunked, chunked'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding: gzip, chunked'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding: chunked, identity'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding: identity'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding: xchunked'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding: chunked\xa0'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding: "chunked"'],
    ['POST / HTTP/1.1', host, 'Transfer-Encoding:'],
    ['POST / HTTP/1.0', host, 'Transfer-Encoding: chunked'],
    // connection
    ['GET / HTTP/1.1', host, 'Connection: close\xa0'],
    ['GET / HTTP/1.1', host, 'Connection: a b'],
    ['GET / HTTP/1.1', host, 'Expect: 200-ok'],
  ]
  for (const lines of ambiguous) {
    t.match(request(...lines), { kind: 'fault', reason: 'bad-request' }, lines.join(' | '))
  }
})

t.test('readRequestHead refuses CONNECT by its own reason, whatever its target', async (t) => {
  for (const target of ['orders.mesh:80', '/', '*', 'http://orders.mesh/']) {
    const head = request(`CONNECT ${target} HTTP/1.1`, 'Host: orders.mesh')
    t.match(head, { kind: 'fault', reason: 'method-refused' }, target)
  }
})

t.test('readRequestHead takes so many fields and no more', async (t) => {
  const some = Array.from({ length: headDefaults.maxFields - 1 }, (_, i) => `X-${i}: v`)
  t.match(get(...some), { kind: 'request' })
  t.match(get(...some, 'X-More: v'), { kind: 'fault', reason: 'head-too-large' })
})

t.test('readResponseHead takes what is unambiguous', async (t) => {
  t.match(response('HTTP/1.1 200 OK', 'Content-Length: 5'), {
    kind: 'response',
    status: 200,
    reasonPhrase: 'OK',
    body: { kind: 'length', length: 5 },
    keepAlive: true,
  })
  t.match(response('HTTP/1.1 299 '), { status: 299, reasonPhrase: '' })
  t.match(response('HTTP/1.1 200'), { status: 200, reasonPhrase: '' })
  t.match(response('HTTP/1.1 200 G\xe9nial \t!'), { reasonPhrase: 'G\xe9nial \t!' })
  t.match(response('HTTP/1.1 200 OK'), { body: { kind: 'until-close' }, keepAlive: false })
  t.match(response('HTTP/1.0 200 OK', 'Content-Length: 0'), { keepAlive: false })
  t.match(response('HTTP/1.0 200 OK', 'Content-Length: 0', 'Connection: keep-alive'), {
    keepAlive: true,
    body: { kind: 'length', length: 0 },
  })
  t.match(response('HTTP/1.1 200 OK', 'Connection: Upgrade', 'Upgrade: h2,h2c'), { upgrade: '' })
})

t.test('readResponseHead knows which responses have no content', async (t) => {
  for (const status of [100, 101, 103, 199, 204, 304]) {
    t.match(response(`HTTP/1.1 ${status} X`, 'Content-Length: 5'), { body: { kind: 'none' } })
  }
  const text = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n'
  t.match(readResponseHead(text, 'HEAD', headDefaults), {
    body: { kind: 'none' },
    keepAlive: true,
  })
  t.match(readResponseHead(text, 'GET', headDefaults), { body: { kind: 'chunked' } })
})

t.test('readResponseHead refuses what is no strict response', async (t) => {
  const wrong: readonly (readonly string[])[] = [
    [''],
    ['HTTP/1.1'],
    ['HTTP/1.1 '],
    ['HTTP/1.1 20'],
    ['HTTP/1.1 2000 OK'],
    ['HTTP/1.1 20a OK'],
    ['HTTP/1.1 600 OK'],
    ['HTTP/1.1 099 OK'],
    ['HTTP/1.1  200 OK'],
    ['HTTP/1.1\t200 OK'],
    ['HTTP/1.1 200OK'],
    ['HTTP/1.1 200\tOK'],
    ['HTTP/2 200 OK'],
    ['HTTP/1.2 200 OK'],
    ['http/1.1 200 OK'],
    ['ICY 200 OK'],
    ['HTTP/1.1 200 \x00'],
    ['HTTP/1.1 200 O\rK'],
    ['HTTP/1.1 200 O\nK'],
    ['HTTP/1.1 200 OK', 'Content-Length: 1', 'Content-Length: 2'],
    ['HTTP/1.1 200 OK', 'Content-Length: 1', 'Transfer-Encoding: chunked'],
    ['HTTP/1.1 200 OK', 'Transfer-Encoding: gzip'],
    ['HTTP/1.0 200 OK', 'Transfer-Encoding: chunked'],
    ['HTTP/1.1 200 OK', ' folded'],
    ['HTTP/1.1 200 OK', 'A : b'],
  ]
  for (const lines of wrong) t.match(response(...lines), { kind: 'fault' }, lines.join(' | '))
})

t.test('readTrailers takes field lines and nothing else', async (t) => {
  t.match(readTrailers('', headDefaults), { text: '' })
  const trailers = readTrailers('X-Sum: 1\r\nx-b: 2\r\n', headDefaults)
  t.same('kind' in trailers ? [] : wires(trailers), ['x-sum: 1', 'x-b: 2'])
  t.match(readTrailers('X-Sum 1\r\n', headDefaults), { kind: 'fault' })
  t.match(readTrailers(' x: 1\r\n', headDefaults), { kind: 'fault' })
})

t.test('a section that comes again is known again, and only that very one', async (t) => {
  const lines = 'Host: orders.mesh\r\nX-A: 1\r\nConnection: X-A\r\n'
  const first = readRequestHead(`GET /a HTTP/1.1\r\n${lines}`, headDefaults)
  if (first.kind === 'fault') throw new Error(first.problem)
  const again = (text: string) => readRequestHead(text, headDefaults, first.reading)
  const same = again(`POST /b?c HTTP/1.1\r\n${lines}`)
  t.match(same, { method: 'POST', target: '/b?c', authority: 'orders.mesh' })
  t.equal(same.kind === 'request' && same.reading, first.reading)
  t.same(linesOf(same), linesOf(first))
  // What the first line says is judged anew.
  t.match(again(`GET http://other.mesh/ HTTP/1.1\r\n${lines}`), { kind: 'fault' })
  for (const text of [
    'GET / HTTP/1.1\r\nHost: orders.mesh\r\nX-A: 1\r\nConnection: X-B\r\n',
    'GET / HTTP/1.1\r\nHost: orders.mesh\r\nX-A: 1\r\n',
    `GET / HTTP/1.1\r\n${lines}X-B: 2\r\n`,
    `GET / HTTP/1.1\r\nX-B: 2\r\n${lines}`,
  ]) {
    const other = again(text)
    t.same(linesOf(other), linesOf(readRequestHead(text, headDefaults)), text)
    t.not(other.kind === 'request' && other.reading, first.reading)
  }
  for (const wrong of ['X-A : b', ' X-A: b', 'X-A: \0', 'Content-Length: 1\r\nContent-Length: 1']) {
    t.match(again(`GET / HTTP/1.1\r\n${lines}${wrong}\r\n`), { kind: 'fault' }, wrong)
  }
  const chunked = 'Host: a\r\nTransfer-Encoding: chunked\r\n'
  const new11 = readRequestHead(`POST / HTTP/1.1\r\n${chunked}`, headDefaults)
  if (new11.kind === 'fault') throw new Error(new11.problem)
  t.match(
    readRequestHead(`POST / HTTP/1.0\r\n${chunked}`, headDefaults, new11.reading),
    { kind: 'fault' },
    'chunked is not for HTTP/1.0, known or not',
  )
})

t.test(
  'a section with another request id is known again, and says what it would say read anew',
  async (t) => {
    const text = (id: string, ...more: readonly string[]) =>
      ['GET /a HTTP/1.1', 'host: a', 'x-a: 1', `x-request-id: ${id}`, 'x-b: 2', ...more, ''].join(
        '\r\n',
      )
    const all = (head: ReturnType<typeof readRequestHead>) =>
      head.kind === 'fault'
        ? head
        : {
            id: head.requestId,
            lines: new RequestView(head).lines,
            passing: (['caller-request', 'peer-request'] as const).map((origin) =>
              head.fields.passingLines(origin),
            ),
            upgrade: head.upgrade,
            nominated: head.nominated,
            keepAlive: head.keepAlive,
          }
    const lastOnes = [
      text('0123456789'),
      text('0123456789', 'connection: x-b, upgrade', 'upgrade: websocket'),
      text('0123456789', 'connection: x-request-id'),
      text('0123456789', 'x-request-id: 0123456789'),
      text('0123456789', 'X_Request_Id: 0123456789'),
      text('', 'x-request-id: 0123456789'),
    ]
    const ids = [
      '9876543210',
      'abc',
      '01234 6789',
      ' 123456789',
      '012345678 ',
      '0123\r\na: b',
      '012345678\0',
      '01\r3456789',
      'é123456789',
      '',
    ]
    for (const lastText of lastOnes) {
      const last = readRequestHead(lastText, headDefaults)
      if (last.kind === 'fault') throw new Error(last.problem)
      const next = ids.flatMap((id) => [
        lastText.replace('0123456789', id),
        lastText.replaceAll('0123456789', id),
        lastText.replace('0123456789', id).replace('/a', '/other'),
        lastText.replace('0123456789', id).replace('x-b: 2', 'x-b: 3'),
        lastText.replace('0123456789', id).replace('x-a: 1', 'x-c: 1'),
      ])
      for (const one of next) {
        t.same(
          all(readRequestHead(one, headDefaults, last.reading)),
          all(readRequestHead(one, headDefaults)),
          JSON.stringify([lastText, one]),
        )
      }
    }
    const last = readRequestHead(lastOnes[0] ?? '', headDefaults)
    if (last.kind === 'fault') throw new Error(last.problem)
    const known = readRequestHead(text('9876543210'), headDefaults, last.reading)
    t.equal(known.kind === 'request' && known.reading, last.reading, 'without being read anew')
    t.match(known, { requestId: '9876543210' })
  },
)

t.test(
  'passingLines answers each origin by its own rules, however often it is asked',
  async (t) => {
    const head = get('X-Real-IP: 10.0.0.1', 'X-Request-Id: a', 'Accept: b')
    if (head.kind === 'fault') throw new Error(head.problem)
    for (let i = 0; i < 3; i++) {
      t.equal(head.fields.passingLines('caller-request'), 'Accept: b\r\n')
      const fromPeer = head.fields.passingLines('peer-request')
      t.equal(fromPeer, 'X-Real-IP: 10.0.0.1\r\nAccept: b\r\n')
    }
  },
)
