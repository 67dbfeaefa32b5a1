import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { RawServer } from '#test/support/raw-peer.ts'
import { RelayRig } from '#test/support/relay-rig.ts'

type Test = Parameters<typeof RelayRig.start>[0]

async function rigWith(t: Test) {
  const service = await RawServer.listen()
  t.teardown(() => service.stop())
  const rig = await RelayRig.start(t, { upstreams: [{ port: service.port }] })
  return { service, rig }
}

const ask = (protocol: string) =>
  `GET /chat HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`
const switched = (protocol: string) =>
  `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ${protocol}\r\n\r\n`

t.test('a WebSocket passes both ways until it says goodbye', async (t) => {
  const http = createServer()
  const sockets = new WebSocketServer({ server: http })
  sockets.on('connection', (socket) => {
    socket.on('message', (data: Buffer) => socket.send(`you said ${data.toString()}`))
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(() => http.close())
  const rig = await RelayRig.start(t, {
    upstreams: [{ port: (http.address() as AddressInfo).port }],
  })
  const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/chat`)
  await once(socket, 'open')
  for (const word of ['one', 'x'.repeat(100_000)]) {
    socket.send(word)
    const [data] = (await once(socket, 'message')) as [Buffer]
    t.equal(data.toString(), `you said ${word}`)
  }
  t.equal(rig.outcomes.length, 0, 'it is not over yet')
  t.equal(rig.watch.size, 1)
  socket.close()
  await once(socket, 'close')
  t.match(await rig.recorded(1), { status: 101, reason: 'ok', method: 'GET', path: '/chat' })
  t.same(rig.upstreams[0]?.results, ['ok'])
  t.equal(rig.watch.size, 0)
  t.equal(rig.outcomes.length, 1)
})

t.test('bytes that come with the 101, from either side, are not lost', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(`${ask('echo')}early`)
  const peer = await service.peer(0)
  t.match(await peer.until('\r\n\r\n'), 'connection: upgrade\r\nupgrade: echo\r\n')
  t.notMatch(peer.text, 'early', 'not before the service has agreed')
  peer.write(`${switched('Echo')}hello`)
  await peer.until('early')
  t.match(
    await caller.until('hello'),
    /^HTTP\/1\.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: Echo\r\n\r\nhello$/,
  )
  caller.end()
  await peer.untilEnd()
  peer.write('last words')
  peer.end()
  t.match(await caller.untilClosed(), /hellolast words$/)
  t.match(await rig.recorded(1), {
    reason: 'ok',
    bytesFromCaller: ask('echo').length + 'early'.length,
  })
})

t.test('the loss of either side of an upgraded connection is told and counted once', async (t) => {
  for (const lost of ['caller', 'service'] as const) {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(ask('echo'))
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    peer.write(switched('echo'))
    await caller.until('101')
    if (lost === 'caller') caller.reset()
    else peer.reset()
    await (lost === 'caller' ? peer : caller).untilClosed()
    const reason = lost === 'caller' ? 'caller-aborted' : 'instance-aborted'
    t.match(await rig.recorded(1), { status: 101, reason })
    t.same(rig.upstreams[0]?.results, [lost === 'caller' ? 'abandoned' : 'reset'])
    t.equal(rig.watch.size, 0)
  }
})

t.test('early bytes of a refused upgrade reach nobody', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(`${ask('websocket')}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`)
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  peer.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno')
  t.match(await caller.untilEnd(), /connection: close\r\n\r\nno$/)
  await rig.recorded(1)
  t.notMatch(peer.text, 'smuggled')
  t.equal(service.peers.length, 1)
  t.equal(rig.outcomes.length, 1)
})

t.test('h2c is not offered: the request is served as HTTP/1.1', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(
    'GET / HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n' +
      'HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n',
  )
  const peer = await service.peer(0)
  t.notMatch(await peer.until('\r\n\r\n'), /upgrade|http2/i)
  peer.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  t.equal(await caller.until('ok'), 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
})

t.test('a service that switches to what nobody asked for is not followed', async (t) => {
  for (const [request, answer] of [
    ['GET / HTTP/1.1\r\nHost: orders\r\n\r\n', switched('websocket')],
    [ask('websocket'), switched('other')],
    [ask('websocket'), switched('h2c')],
    [ask('websocket'), 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
  ] as const) {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(request)
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    peer.write(answer)
    t.match(await caller.until('bad-response'), /^HTTP\/1\.1 502 Bad Gateway/)
    await peer.untilClosed()
    t.match(await rig.recorded(1), { reason: 'bad-response', status: 502 })
  }
})

t.test('an upgrade with a body is refused', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(
    'POST / HTTP/1.1\r\nHost: orders\r\nConnection: upgrade\r\nUpgrade: websocket\r\n' +
      'Content-Length: 4\r\n\r\nbody',
  )
  t.match(await caller.untilEnd(), /^HTTP\/1\.1 400 [\s\S]*x-mesh-reason: upgrade-refused/)
  t.equal(service.peers.length, 0)
})

t.test(
  'an upgraded connection that policy no longer allows is cut, and recorded by the rule',
  async (t) => {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(ask('echo'))
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    peer.write(switched('echo'))
    await caller.until('101')
    rig.watch.reconsider()
    peer.write('still here')
    await caller.until('still here')
    const ref = { rule: 'deny[0]', file: '/p.json', line: 3 }
    rig.refusal = { reason: 'policy-denied', ref, detail: 'no' }
    rig.watch.reconsider()
    await caller.untilClosed()
    t.match(await rig.recorded(1), { reason: 'policy-denied', rule: ref, status: 101 })
    t.equal(rig.watch.size, 0)
  },
)
