import t from 'tap'
import { RawServer } from '#test/support/raw-peer.ts'
import { RelayRig, type RigSettings } from '#test/support/relay-rig.ts'

type Test = Parameters<typeof RelayRig.start>[0]

async function rigWith(t: Test, settings: Partial<RigSettings> = {}) {
  const service = await RawServer.listen()
  t.teardown(() => service.stop())
  const rig = await RelayRig.start(t, { upstreams: [{ port: service.port }], ...settings })
  return { service, rig }
}

const get = 'GET /a HTTP/1.1\r\nHost: orders\r\n\r\n'

t.test('a request goes on with the mesh’s own fields, its response comes back', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(
    'GET /a?b HTTP/1.1\r\nHost: orders\r\nX-Mesh-Source: spiffe://evil\r\nx_forwarded_for: 6.6.6.6\r\n' +
      'X-Request-Id: mine\r\nConnection: x-request-id\r\nX-Own: 1\r\n\r\n',
  )
  const peer = await service.peer(0)
  const lines = (await peer.until('\r\n\r\n')).split('\r\n')
  t.match(lines, [
    'GET /a?b HTTP/1.1',
    'host: orders',
    'x-own: 1',
    /^x-request-id: [0-9a-f]{32}$/,
    'x-forwarded-for: 127.0.0.1',
    'x-forwarded-proto: http',
    'x-forwarded-host: orders',
    'x-mesh-source: spiffe://mesh.internal/service/web',
    '',
    '',
  ])
  peer.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Mesh-Reason: draining\r\n\r\nhello')
  t.equal(await caller.until('hello'), 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello')
  t.match(await rig.recorded(1), {
    direction: 'outbound',
    protocol: 'http',
    source: 'spiffe://mesh.internal/service/web',
    destination: 'spiffe://mesh.internal/service/orders',
    service: 'orders',
    host: 'beta',
    instance: 'i1',
    method: 'GET',
    path: '/a?b',
    status: 200,
    reason: 'ok',
    attempts: 1,
    mtls: false,
    requestId: lines[3]?.slice(14),
  })
  t.same(rig.upstreams[0]?.results, ['ok'])
})

t.test('the inbound side keeps the id of a peer agent, and what it forwards', async (t) => {
  const { service, rig } = await rigWith(t, { direction: 'inbound' })
  await rig.call(
    'GET / HTTP/1.1\r\nHost: orders\r\nX-Request-Id: abc\r\nX-Forwarded-For: 10.0.0.1\r\n' +
      'X-Mesh-Source: spiffe://evil\r\nX-Forwarded-Client-Cert: evil\r\n\r\n',
  )
  const heard = await (await service.peer(0)).until('\r\n\r\n')
  t.match(heard.split('\r\n'), [
    'GET / HTTP/1.1',
    'host: orders',
    'X-Forwarded-For: 10.0.0.1',
    'x-request-id: abc',
    'x-mesh-source: spiffe://mesh.internal/service/web',
    '',
    '',
  ])
})

t.test('the inbound side takes no id that would not do in a log', async (t) => {
  const { service, rig } = await rigWith(t, { direction: 'inbound' })
  for (const id of ['\xe9', 'a b', 'x'.repeat(129)]) {
    await rig.call(`GET / HTTP/1.1\r\nHost: orders\r\nX-Request-Id: ${id}\r\n\r\n`)
    const peer = await service.peer(service.peers.length)
    t.match(await peer.until('\r\n\r\n'), /\r\nx-request-id: [0-9a-f]{32}\r\n/)
  }
})

t.test('chunks and trailers pass both ways, framed anew', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(
    'POST / HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\n\r\n' +
      '0003\r\nabc\r\n',
  )
  const peer = await service.peer(0)
  await peer.until('3\r\nabc\r\n')
  caller.write('1\r\nd\r\n2\r\nef\r\n0\r\nX-Sum: 6\r\nX-Hop: 1\r\nx_mesh_source: evil\r\n\r\n')
  const heard = await peer.until('0\r\n')
  t.equal(
    heard.slice(heard.indexOf('\r\n\r\n') + 4),
    '3\r\nabc\r\n3\r\ndef\r\n0\r\nx-sum: 6\r\n\r\n',
  )
  peer.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe')
  await caller.until('2\r\nhe\r\n')
  peer.write('llo\r\n0\r\nx-mesh-source: evil\r\nX-Sum: 5\r\n\r\n')
  t.match(
    await caller.until('x-sum: 5\r\n\r\n'),
    '\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 5\r\n\r\n',
  )
  t.match(await rig.recorded(1), { reason: 'ok', status: 200 })
})

t.test('a small chunked message goes out in one piece each way', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(
    'POST / HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
  )
  const peer = await service.peer(0)
  const chunks: string[] = []
  peer.socket.on('data', (chunk: Buffer) => chunks.push(chunk.toString()))
  caller.socket.on('data', (chunk: Buffer) => chunks.push(chunk.toString()))
  await peer.until('0\r\n\r\n')
  peer.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n')
  await caller.until('0\r\n\r\n')
  t.equal(chunks.length, 2)
})

t.test(
  'a body until the end of the connection becomes chunks, or for HTTP/1.0 an end',
  async (t) => {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(get)
    const first = await service.peer(0)
    await first.until('\r\n\r\n')
    first.write('HTTP/1.0 200 OK\r\n\r\nhello')
    await caller.until('hello')
    first.end()
    t.match(
      await caller.until('0\r\n\r\n'),
      'transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
    )
    caller.write(get)
    await service.peer(1)
    const old = await rig.call('GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n')
    const third = await service.peer(2)
    await third.until('\r\n\r\n')
    third.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n')
    t.equal(await old.untilEnd(), 'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello')
  },
)

t.test('an HTTP/1.0 caller may keep its connection where lengths are known', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call('GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n')
  const peer = await service.peer(0)
  t.match(await peer.until('\r\n\r\n'), 'GET / HTTP/1.1\r\nhost: \r\n')
  peer.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  t.match(await caller.until('ok'), 'connection: keep-alive\r\n')
  await rig.until(() => rig.upstreams[0]?.pool.idle === 1)
  caller.write('GET / HTTP/1.0\r\n\r\n')
  await peer.until((one) => one.text.split('GET').length === 3)
  peer.write('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbye')
  t.match(await caller.untilEnd(), 'connection: close\r\n\r\nbye')
})

t.test('HEAD, 204 and 304 have no body, whatever they say', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call()
  const cases = [
    ['HEAD', '200 OK\r\ncontent-length: 5', '200 OK\r\ncontent-length: 5'],
    ['HEAD', '200 OK\r\ntransfer-encoding: chunked', '200 OK'],
    ['GET', '204 No Content', '204 No Content'],
    ['GET', '304 Not Modified\r\ncontent-length: 5', '304 Not Modified\r\ncontent-length: 5'],
  ] as const
  let before = 0
  for (const [index, [method, answer, expected]] of cases.entries()) {
    caller.write(`${method} /${index} HTTP/1.1\r\nHost: orders\r\n\r\n`)
    const peer = await service.peer(0)
    await peer.until(`/${index} HTTP/1.1`)
    peer.write(`HTTP/1.1 ${answer}\r\n\r\n`)
    const heard = await caller.until((one) => one.text.length > before)
    t.equal(heard.slice(before), `HTTP/1.1 ${expected}\r\n\r\n`)
    before = heard.length
    await rig.until(() => rig.upstreams[0]?.pool.idle === 1)
  }
  t.equal(service.peers.length, 1, 'the channel was used again each time')
})

t.test('100 Continue and 103 go on, to callers that know them', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(
    'POST / HTTP/1.1\r\nHost: orders\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n',
  )
  const peer = await service.peer(0)
  t.match(await peer.until('\r\n\r\n'), 'Expect: 100-continue\r\n')
  peer.write('HTTP/1.1 100 Continue\r\n\r\n')
  await caller.until('HTTP/1.1 100 Continue\r\n\r\n')
  caller.write('body')
  await peer.until('body')
  peer.write(
    'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
  )
  t.match(
    await caller.until('200 OK'),
    '100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n',
  )
  const old = await rig.call('GET / HTTP/1.0\r\n\r\n')
  const second = service.peers[1] ?? peer
  await second.until('x-forwarded-host: \r\n')
  second.write('HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
  t.match(await old.untilEnd(), /^HTTP\/1\.1 200 OK\r\n/)
})

t.test(
  'a service may refuse after the head alone: the caller hears it and is let go',
  async (t) => {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(
      'POST / HTTP/1.1\r\nHost: orders\r\nExpect: 100-continue\r\nContent-Length: 400\r\n\r\n',
    )
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    peer.write('HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n')
    t.match(
      await caller.untilEnd(),
      'HTTP/1.1 417 No\r\ncontent-length: 0\r\nconnection: close\r\n',
    )
    await peer.untilClosed()
    t.match(await rig.recorded(1), { status: 417, reason: 'ok' })
    t.equal(rig.upstreams[0]?.pool.idle, 0)
  },
)

t.test(
  'an upload with an early response is heard out, and the response arrives whole',
  async (t) => {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(
      'POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 5000000\r\n\r\n',
    )
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    peer.write('HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig')
    await caller.until('big')
    caller.write(Buffer.alloc(4_000_000))
    caller.end()
    await caller.untilClosed()
    t.equal(caller.error, '', 'no reset')
    t.match(caller.text, /413 Too Large[\s\S]*connection: close[\s\S]*big$/)
    t.equal(rig.outcomes.length, 1)
  },
)
