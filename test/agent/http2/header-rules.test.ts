import t from 'tap'
import { type HeaderField, headerField } from '#agent/http2/header-field.ts'
import { judgeRequest, judgeResponse, trailerProblem } from '#agent/http2/header-rules.ts'

const f = headerField
const get = [f(':method', 'GET'), f(':scheme', 'https'), f(':authority', 'a.b'), f(':path', '/x?y')]
const connect = [f(':method', 'CONNECT'), f(':authority', 'i1.orders.mesh:8080')]

/** `get` with a field put in the place of one, or left out. */
function instead(name: string, ...fields: HeaderField[]): HeaderField[] {
  return get.flatMap((field) => (field.name === name ? fields : [field]))
}

t.test('judgeRequest takes well-formed requests apart', async (t) => {
  t.same(judgeRequest([...get, f('a', 'b'), f('content-length', '5')]), {
    ok: true,
    head: {
      method: 'GET',
      scheme: 'https',
      authority: 'a.b',
      path: '/x?y',
      contentLength: 5,
      fields: [f('a', 'b'), f('content-length', '5')],
    },
  })
  t.match(judgeRequest(connect), {
    ok: true,
    head: { method: 'CONNECT', authority: 'i1.orders.mesh:8080', scheme: null, path: null },
  })
  for (const good of [
    [...get, f('te', 'trailers'), f('cookie', 'a=b'), f('cookie', 'c=d')],
    [...get, f('host', 'A.B')],
    [...get, f('content-length', '5'), f('content-length', '5')],
    [...get, f('empty', ''), f('tabs', 'a\tb'), f('bytes', '\xff')],
    [f(':method', 'OPTIONS'), f(':scheme', 'http'), f(':path', '*')],
    [f(':method', 'CONNECT'), f(':authority', '[::1]:80')],
  ]) {
    t.ok(judgeRequest(good).ok, JSON.stringify(good))
  }
})

const bad: Readonly<Record<string, readonly HeaderField[]>> = {
  'no :method': instead(':method'),
  'a :method that is no token': instead(':method', f(':method', 'GE T')),
  'two of :method': [f(':method', 'GET'), ...get],
  'no :scheme': instead(':scheme'),
  'a :scheme with a blank': instead(':scheme', f(':scheme', 'ht tp')),
  'no :path': instead(':path'),
  'an empty :path': instead(':path', f(':path', '')),
  'a :path that is not absolute': instead(':path', f(':path', 'x')),
  'a :path with a blank': instead(':path', f(':path', '/a b')),
  'a :path with a line feed': instead(':path', f(':path', '/a\nb')),
  '* without OPTIONS': instead(':path', f(':path', '*')),
  'an :authority with user information': instead(':authority', f(':authority', 'u@h')),
  'an empty :authority': instead(':authority', f(':authority', '')),
  'an :authority with a slash': instead(':authority', f(':authority', 'a/b')),
  'an unknown pseudo-header': [...get, f(':foo', 'x')],
  ':protocol, which was not offered': [...connect, f(':protocol', 'websocket')],
  'a response pseudo-header': [...get, f(':status', '200')],
  'a pseudo-header after a field': [get[0], f('a', 'b'), ...get.slice(1)] as HeaderField[],
  'an upper-case name': [...get, f('Host', 'a.b')],
  'an empty name': [...get, f('', 'x')],
  'a name with a blank': [...get, f('a b', 'x')],
  'a name with a colon': [...get, f('a:b', 'x')],
  'a name beyond ASCII': [...get, f('\xe4', 'x')],
  'a value with NUL': [...get, f('a', 'b\0c')],
  'a value with CR': [...get, f('a', 'b\rc')],
  'a value with LF': [...get, f('a', 'b\nc')],
  'a value with DEL': [...get, f('a', 'b\x7f')],
  'a value with a blank before': [...get, f('a', ' b')],
  'a value with a tab behind': [...get, f('a', 'b\t')],
  connection: [...get, f('connection', 'close')],
  'keep-alive': [...get, f('keep-alive', '1')],
  'proxy-connection': [...get, f('proxy-connection', 'x')],
  'transfer-encoding': [...get, f('transfer-encoding', 'chunked')],
  upgrade: [...get, f('upgrade', 'h2c')],
  'te: gzip': [...get, f('te', 'gzip')],
  'te: trailers, gzip': [...get, f('te', 'trailers, gzip')],
  'a host that differs': [...get, f('host', 'c.d')],
  'two of host': [...get, f('host', 'a.b'), f('host', 'a.b')],
  'content-length with a sign': [...get, f('content-length', '+5')],
  'content-length as a list': [...get, f('content-length', '5, 5')],
  'two values of content-length': [...get, f('content-length', '5'), f('content-length', '6')],
  'CONNECT with :scheme': [...connect, f(':scheme', 'http')],
  'CONNECT with :path': [...connect, f(':path', '/')],
  'CONNECT without :authority': [f(':method', 'CONNECT')],
  'CONNECT without a port': [f(':method', 'CONNECT'), f(':authority', 'orders.mesh')],
  'CONNECT with a long port': [f(':method', 'CONNECT'), f(':authority', 'orders.mesh:123456')],
  'CONNECT with content-length': [...connect, f('content-length', '0')],
}

t.test('judgeRequest refuses every malformed request', async (t) => {
  for (const [name, fields] of Object.entries(bad)) t.notOk(judgeRequest(fields).ok, name)
})

t.test('judgeResponse demands one status, and no upgrade', async (t) => {
  t.match(judgeResponse([f(':status', '200'), f('a', 'b')]), { ok: true, head: { status: 200 } })
  for (const status of ['', '99', '600', '20', '2000', 'abc', '101']) {
    t.notOk(judgeResponse([f(':status', status)]).ok, status)
  }
  t.notOk(judgeResponse([f('a', 'b')]).ok)
  t.notOk(judgeResponse([f(':status', '200'), f(':status', '200')]).ok)
  t.notOk(judgeResponse([f(':status', '200'), f(':path', '/')]).ok)
})

t.test('trailerProblem lets fields pass, and no pseudo-header', async (t) => {
  t.equal(trailerProblem([f('grpc-status', '0')]), '')
  t.not(trailerProblem([f(':status', '200')]), '')
  t.not(trailerProblem([f('connection', 'close')]), '')
})
