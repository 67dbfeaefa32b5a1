import { once } from 'node:events'
import { connect as connectNode, type ClientHttp2Session } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { TunnelListener } from '#agent/tunnel/tunnel-listener.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import { closed } from '#test/support/closed.ts'
import { until } from '#test/support/until.ts'
import { makeTunnelPair, type TunnelPair } from '#test/support/tunnel-pair.ts'
import {
  connectBlock,
  frame,
  parseFrames,
  preface,
  types,
  uint32,
} from '#test/support/raw-http2.ts'
import { makeDetour } from '#test/support/detour.ts'
import { logLines } from '#test/support/log-lines.ts'

/** A TLS connection made by hand, with the caller's certificate. */
async function knock(
  t: Test,
  pair: TunnelPair,
  { ciphers, host = 'h1' }: { readonly ciphers?: string; readonly host?: string } = {},
): Promise<TLSSocket> {
  const dnsNames = [`${host}.host.mesh.internal`]
  const leaf = await pair.ca.issue({ id: pair.caller, dnsNames })
  const socket = connectTls({
    host: '127.0.0.1',
    port: pair.listener.port,
    servername: 'orders.service.mesh.internal',
    ALPNProtocols: ['h2'],
    ca: pair.ca.bundlePem,
    key: leaf.keyPem,
    cert: leaf.chainPem,
    checkServerIdentity: () => undefined,
    ...(ciphers === undefined ? {} : { ciphers }),
  })
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  t.teardown(() => socket.destroy())
  return socket
}

/** A session of node:http2 with the caller's certificate. */
async function session(t: Test, pair: TunnelPair): Promise<ClientHttp2Session> {
  const socket = await knock(t, pair)
  const client = connectNode('https://orders', { createConnection: () => socket })
  client.on('error', () => {})
  t.teardown(() => client.destroy())
  return client
}

t.test('TunnelListener serves any HTTP/2 peer that tunnels', async (t) => {
  const pair = await makeTunnelPair(t)
  const client = await session(t, pair)
  const stream = client.request({ ':method': 'CONNECT', ':authority': 'i1.orders.mesh:8080' })
  stream.end('hello')
  let text = ''
  for await (const chunk of stream) text += String(chunk)
  t.equal(text, 'hello')
})

t.test(
  'TunnelListener takes the cheapest cipher of TLS 1.3, and every other on demand',
  async (t) => {
    const pair = await makeTunnelPair(t)
    t.equal((await knock(t, pair)).getCipher().name, 'TLS_AES_128_GCM_SHA256')
    for (const ciphers of ['TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256']) {
      t.equal((await knock(t, pair, { ciphers })).getCipher().name, ciphers)
    }
  },
)

t.test('TunnelListener refuses anything but CONNECT, and says so', async (t) => {
  const pair = await makeTunnelPair(t)
  const client = await session(t, pair)
  for (const method of ['GET', 'POST', 'OPTIONS']) {
    const stream = client.request({ ':method': method, ':path': '/' })
    stream.on('error', () => {})
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
    t.equal(headers[':status'], 405)
    t.equal(headers['x-mesh-reason'], 'method-refused')
  }
  t.same(pair.calls, [])
})

t.test('TunnelListener ends a peer that resets streams faster than any honest agent', async (t) => {
  // Time stands still, so that a crowded machine is no slower than an honest agent.
  const listenerClock = { ...systemClock, elapsed: () => 0 }
  const pair = await makeTunnelPair(t, { onStream() {}, listenerClock })
  const flood = async (count: number, host = 'h1'): Promise<number | undefined> => {
    const socket = await knock(t, pair, { host })
    const pairs = Array.from({ length: count }, (_, i) => [
      frame(types.headers, 4, 2 * i + 1, connectBlock),
      frame(types.rstStream, 0, 2 * i + 1, uint32(8)),
    ])
    socket.write(Buffer.concat([preface, frame(types.settings, 0, 0), ...pairs.flat()]))
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    await closed(socket)
    const { frames } = parseFrames(Buffer.concat(chunks))
    return frames.find(({ type }) => type === types.goaway)?.payload.readUInt32BE(4)
  }
  t.equal(await flood(12_000), 11, 'ENHANCE_YOUR_CALM')
  t.ok(pair.calls.length <= 10_001, `${pair.calls.length} streams were looked at`)
  t.equal(await flood(1), 11, 'a new tunnel brings no new patience')
  const before = pair.calls.length
  t.equal(await flood(10_001, 'h2'), 11, 'and another host that runs the service has its own')
  t.equal(pair.calls.length - before, 10_001)
})

t.test('TunnelListener keeps every tunnel of a peer that has many, all silent', async (t) => {
  // Time stands still: no budget is filled again.
  const listenerClock = { ...systemClock, elapsed: () => 0 }
  const pair = await makeTunnelPair(t, { onStream: ({ stream }) => stream.accept(), listenerClock })
  const sessions = await Promise.all(Array.from({ length: 40 }, () => session(t, pair)))
  const streams = sessions.map((client) => {
    const stream = client.request({ ':method': 'CONNECT', ':authority': 'i1.orders.mesh:8080' })
    return stream.on('error', () => {})
  })
  await Promise.all(streams.map((stream) => once(stream, 'response')))
  let answers = 0
  const ping = (client: ClientHttp2Session): Promise<void> =>
    new Promise((resolve) => {
      const isSent = client.ping((error) => {
        if (error === null) answers++
        resolve()
      })
      if (!isSent) resolve()
    })
  for (let round = 0; round < 10; round++) await Promise.all(sessions.map(ping))
  t.equal(answers, 400)
  t.equal(pair.listener.openStreams, 40)
})

t.test('TunnelListener takes a hundred tunnels of one caller at once', async (t) => {
  // Time stands still: no budget is filled again.
  const pair = await makeTunnelPair(t, { listenerClock: { ...systemClock, elapsed: () => 0 } })
  for (let i = 0; i < 100; i++) {
    // Names differ, so that no stream shares the tunnel of another.
    const name = must(parseHostName(`h${i}`))
    const opened = await pair.open({ host: { ...pair.target.host, name } })
    if (opened.kind !== 'open') {
      t.fail(`tunnel ${i + 1}: ${JSON.stringify(opened)}`)
      return
    }
  }
  t.equal(pair.listener.openTunnels, 100)
})

t.test('TunnelListener outlives bytes that are no TLS, and callers that say nothing', async (t) => {
  const pair = await makeTunnelPair(t, { listener: { handshakeTimeoutMs: 300 } })
  for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '\0\0\0\0', '\x16\x03\x01\xff\xff', '']) {
    const socket = connectTcp({ port: pair.listener.port, host: '127.0.0.1' })
    socket.on('error', () => {})
    socket.write(bytes, 'latin1')
    socket.resume()
    await closed(socket)
  }
  t.same(pair.handshakes.accepted, ['failed', 'failed', 'failed', 'failed'])
  const opens = async (): Promise<boolean> => (await pair.open()).kind === 'open'
  await until('an honest caller gets through', opens, { withinMs: 60_000 })
})

t.test('TunnelListener says what to do when its port is taken', async (t) => {
  const pair = await makeTunnelPair(t)
  const other = new TunnelListener(
    {
      credentials: pair.accepting,
      clock: systemClock,
      logger: logLines().logger,
      onStream() {},
    },
    { address: '127.0.0.1', port: pair.listener.port, trustDomain: pair.ca.trustDomain },
  )
  await t.rejects(other.listen(), { code: 'tunnel-port', hint: /ss -ltnp/ })
  other.stop()
})

t.test('TunnelListener shares its port where it is told to', async (t) => {
  const { accepting: credentials, ca } = await makeTunnelPair(t)
  const parts = { credentials, clock: systemClock, logger: logLines().logger, onStream() {} }
  const settings = { address: '127.0.0.1', trustDomain: ca.trustDomain, reusePort: true }
  const first = new TunnelListener(parts, { ...settings, port: 0 })
  await first.listen()
  t.teardown(() => first.stop())
  const second = new TunnelListener(parts, { ...settings, port: first.port })
  await second.listen()
  t.teardown(() => second.stop())
  t.equal(first.port, second.port)
})

t.test('TunnelListener stops listening without touching its tunnels', async (t) => {
  const pair = await makeTunnelPair(t)
  const result = await pair.open()
  if (result.kind !== 'open') throw new Error(result.detail)
  pair.listener.stopListening()
  result.channel.writeText('still here')
  await result.sink.until((heard) => heard.text === 'still here')
  t.equal((await pair.open()).kind, 'open', 'open tunnels take new streams')
})

t.test('TunnelListener gives up a tunnel whose caller vanished without a word', async (t) => {
  const pair = await makeTunnelPair(t, { listener: { pingEveryMs: 250 } })
  const detour = await makeDetour(t, pair.listener.port)
  const host = { ...pair.target.host, tunnelPort: detour.port }
  t.equal((await pair.open({ host })).kind, 'open')
  let rounds = 0
  await until('some rounds have passed', () => ++rounds > 160)
  t.equal(pair.listener.openTunnels, 1, 'silence alone ends nothing')
  detour.freeze()
  await until('the tunnel is gone', () => pair.listener.openTunnels === 0)
  t.equal(pair.listener.openStreams, 0)
})
