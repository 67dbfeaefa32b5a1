import t from 'tap'
import { noFields } from '#agent/http1/field-lines.ts'
import { headDefaults } from '#agent/http1/head-fault.ts'
import {
  readRequestHead,
  readResponseHead,
  readTrailers,
  type RequestHead,
  type ResponseHead,
} from '#agent/http1/head.ts'
import { writeLastChunk, writeRequestHead, writeResponseHead } from '#agent/http1/serialise.ts'

function requestOf(...lines: string[]): RequestHead {
  const head = readRequestHead(lines.map((line) => `${line}\r\n`).join(''), headDefaults)
  if (head.kind === 'fault') throw new Error(head.problem)
  return head
}

function responseOf(request: RequestHead, ...lines: string[]): ResponseHead {
  const text = lines.map((line) => `${line}\r\n`).join('')
  const head = readResponseHead(text, request.method, headDefaults)
  if (head.kind === 'fault') throw new Error(head.problem)
  return head
}

const written = (text: string) => text.split('\r\n').filter((line) => line !== '')

t.test('writeRequestHead writes what was parsed and may pass', async (t) => {
  const head = requestOf(
    'POST http://orders.mesh/a?b HTTP/1.1',
    'X-Forwarded-For: 6.6.6.6',
    'Host: orders.mesh',
    'X_Mesh_Source: spiffe://evil',
    'Accept:   text/html ',
    'Connection: x-private, x-mesh-source, close',
    'X-Private: 1',
    'Keep-Alive: timeout=5',
    'TE: trailers',
    'Content-Length: 005',
  )
  t.same(written(writeRequestHead(head, 'caller-request')), [
    'POST /a?b HTTP/1.1',
    'host: orders.mesh',
    'accept: text/html',
    'content-length: 5',
  ])
})

t.test('writeRequestHead frames by what the method anticipates', async (t) => {
  const linesOf = (...lines: string[]) =>
    written(writeRequestHead(requestOf(...lines), 'caller-request')).slice(2)
  t.same(linesOf('GET / HTTP/1.1', 'Host: a'), [])
  t.same(linesOf('POST / HTTP/1.1', 'Host: a'), ['content-length: 0'])
  t.same(linesOf('PUT / HTTP/1.0', 'Host: a'), ['content-length: 0'])
  t.same(linesOf('GET / HTTP/1.1', 'Host: a', 'Transfer-Encoding: CHUNKED'), [
    'transfer-encoding: chunked',
  ])
})

t.test('writeRequestHead passes an upgrade on, h2c never', async (t) => {
  const linesOf = (upgrade: string) =>
    written(
      writeRequestHead(
        requestOf('GET / HTTP/1.1', 'Host: a', 'Connection: upgrade', `Upgrade: ${upgrade}`),
        'caller-request',
      ),
    ).slice(2)
  t.same(linesOf('WebSocket'), ['connection: upgrade', 'upgrade: WebSocket'])
  t.same(linesOf('h2c'), [])
})

t.test('writeResponseHead tells each caller what it understands', async (t) => {
  const new11 = requestOf('GET / HTTP/1.1', 'Host: a')
  const old10 = requestOf('GET / HTTP/1.0', 'Connection: keep-alive')
  const plain = responseOf(new11, 'HTTP/1.0 200 Fine', 'Content-Length: 5', 'Connection: close')
  const write = (head: ResponseHead, request: RequestHead, word: 'keep-alive' | 'close') =>
    written(writeResponseHead(head, 'service-response', word, request))
  t.same(write(plain, new11, 'keep-alive'), ['HTTP/1.1 200 Fine', 'content-length: 5'])
  t.same(write(plain, old10, 'keep-alive').slice(1), [
    'content-length: 5',
    'connection: keep-alive',
  ])
  const chunked = responseOf(new11, 'HTTP/1.1 200 OK', 'Transfer-Encoding: chunked')
  t.same(write(chunked, new11, 'keep-alive').slice(1), ['transfer-encoding: chunked'])
  t.same(write(chunked, old10, 'close').slice(1), ['connection: close'])
  const open = responseOf(new11, 'HTTP/1.1 200 OK')
  t.same(write(open, new11, 'keep-alive').slice(1), ['transfer-encoding: chunked'])
})

t.test('writeResponseHead keeps the length of answers that have no content', async (t) => {
  const head = requestOf('HEAD / HTTP/1.1', 'Host: a')
  const get = requestOf('GET / HTTP/1.1', 'Host: a')
  const linesOf = (request: RequestHead, ...lines: string[]) =>
    written(
      writeResponseHead(responseOf(request, ...lines), 'service-response', 'keep-alive', request),
    ).slice(1)
  t.same(linesOf(head, 'HTTP/1.1 200 OK', 'Content-Length: 5'), ['content-length: 5'])
  t.same(linesOf(head, 'HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'), [])
  t.same(linesOf(get, 'HTTP/1.1 304 Not Modified', 'Content-Length: 5'), ['content-length: 5'])
  t.same(linesOf(get, 'HTTP/1.1 204 No Content', 'Content-Length: 5'), [])
})

t.test(
  'writeResponseHead takes x-mesh-reason from a peer agent and not from a service',
  async (t) => {
    const get = requestOf('GET / HTTP/1.1', 'Host: a')
    const response = responseOf(
      get,
      'HTTP/1.1 503 No',
      'X-Mesh-Reason: draining',
      'x-mesh-source: me',
      'Content-Length: 0',
    )
    t.same(written(writeResponseHead(response, 'service-response', 'close', get)).slice(1), [
      'content-length: 0',
      'connection: close',
    ])
    t.same(
      written(writeResponseHead(response, 'peer-response', 'close', get))[1],
      'X-Mesh-Reason: draining',
    )
  },
)

t.test('writeLastChunk keeps trailers that may pass and were not named hop-by-hop', async (t) => {
  t.equal(writeLastChunk(noFields, null), '0\r\n\r\n')
  const trailers = readTrailers(
    'X-Sum:  1\r\nContent-Length: 5\r\nx_mesh_source: me\r\nX-Hop: 1\r\n',
    headDefaults,
  )
  if ('kind' in trailers) throw new Error(trailers.problem)
  t.equal(writeLastChunk(trailers, new Set(['x-hop'])), '0\r\nx-sum: 1\r\n\r\n')
})
