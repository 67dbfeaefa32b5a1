import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { createSecureServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import t from 'tap'
import type { Channel } from '#agent/platform.ts'
import { must, parsePort } from '#shared/model/names.ts'
import type { Reason } from '#shared/model/reason.ts'
import { serviceId } from '#shared/model/spiffe-id.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { makeDetour } from '#test/support/detour.ts'
import type { Opened } from '#test/support/recorded-channel.ts'
import { echo, makeTunnelPair, type TunnelPair } from '#test/support/tunnel-pair.ts'
import { until } from '#test/support/until.ts'

/** Long enough that a far agent on a crowded machine answers within a round. */
const roundMs = 250

type Open = Extract<Opened, { kind: 'open' }>

function opened(result: Opened): Open {
  if (result.kind !== 'open') throw new Error(`${result.reason}: ${result.detail}`)
  return result
}

/** Says a word and waits for its echo. */
async function says({ channel, sink }: Open, word: string): Promise<void> {
  const before = sink.text
  channel.writeText(word)
  await sink.until((heard) => heard.text === before + word)
}

/** A new certificate for the caller. */
async function rotate(pair: TunnelPair): Promise<void> {
  const leaf = await pair.ca.issue({ id: pair.caller })
  pair.calling.setCredentials([leaf])
}

t.test('Tunnels carries bytes both ways, with half-close', async (t) => {
  const pair = await makeTunnelPair(t)
  const { channel, sink } = opened(await pair.open())
  channel.writeText('hello ')
  channel.write(Buffer.from('world'))
  channel.end()
  await sink.until((heard) => heard.closed !== undefined)
  t.equal(sink.text, 'hello world')
  t.equal(sink.closed, null)
  t.ok(sink.ended)
  const [call] = pair.calls
  t.equal(call?.peer, pair.caller)
  t.equal(call?.service, 'orders')
  t.equal(call?.authority, 'i1.orders.mesh:8080')
})

t.test('Tunnels shares one tunnel among streams of one caller to one service', async (t) => {
  const pair = await makeTunnelPair(t)
  const streams = (await Promise.all(Array.from({ length: 50 }, () => pair.open()))).map(opened)
  await Promise.all(streams.map((stream, i) => says(stream, `stream ${i}`)))
  t.equal(pair.tunnels.openTunnels, 1)
  t.equal(pair.tunnels.openStreams, 50)
  t.equal(pair.listener.openTunnels, 1)
  t.same(pair.handshakes, { dialled: ['ok'], accepted: ['ok'] })
  for (const { channel } of streams) channel.end()
  await Promise.all(streams.map(({ sink }) => sink.until((heard) => heard.closed === null)))
  t.equal(pair.tunnels.openStreams, 0)
})

t.test('Tunnels never shares a tunnel between callers, or between services', async (t) => {
  const pair = await makeTunnelPair(t)
  const { trustDomain } = pair.target
  const other = serviceId(trustDomain, 'shop' as typeof pair.target.service)
  const billing = serviceId(trustDomain, 'billing' as typeof pair.target.service)
  const [web, shop, orders, bills] = await Promise.all(
    [pair.caller, other, serviceId(trustDomain, pair.target.service), billing].map((id) =>
      pair.ca.issue({ id }),
    ),
  )
  if (web === undefined || shop === undefined || orders === undefined || bills === undefined) return
  pair.calling.setCredentials([web, shop])
  pair.accepting.setCredentials([orders, bills])
  opened(await pair.open())
  opened(await pair.open({ caller: other }))
  opened(await pair.open({ service: 'billing' as typeof pair.target.service }))
  t.equal(pair.tunnels.openTunnels, 3)
  t.same(
    pair.calls.map(({ peer, service }) => `${peer} ${service}`),
    [`${pair.caller} orders`, `${other} orders`, `${pair.caller} billing`],
  )
})

t.test('Tunnels tells why the far agent refused, and nothing it should not repeat', async (t) => {
  const answers: readonly (readonly [number, Reason, string])[] = [
    [403, 'policy-denied', 'rule "no-web" denies\nit'],
    [503, 'draining', ''],
    [502, 'tunnel-refused-identity', 'made up'],
    [500, 'nonsense' as Reason, 'made up'],
  ]
  let asked = 0
  const pair = await makeTunnelPair(t, {
    onStream: ({ stream }) => {
      const [status, reason, detail] = answers[asked++] ?? [500, 'ok', '']
      stream.refuse(status, reason, detail)
    },
  })
  t.same(await pair.open(), {
    kind: 'failed',
    reason: 'policy-denied',
    detail: 'rule "no-web" denies?it',
  })
  t.match(await pair.open(), { reason: 'draining' })
  t.match(await pair.open(), { reason: 'tunnel-failed', detail: /502/ })
  t.match(await pair.open(), { reason: 'tunnel-failed', detail: /500/ })
  await until('the streams are over', () => pair.listener.openStreams === 0)
})

t.test('Tunnels fails fast, and by name, where nobody listens', async (t) => {
  const pair = await makeTunnelPair(t)
  const probe = createTcpServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const port = must(parsePort((probe.address() as AddressInfo).port))
  probe.close()
  await once(probe, 'close')
  const host = { ...pair.target.host, tunnelPort: port }
  t.match(await pair.open({ host }), { reason: 'tunnel-failed', detail: /ECONNREFUSED/ })
  t.match(await pair.open({ host }), { reason: 'tunnel-failed' }, 'and again')
  t.equal(pair.tunnels.openTunnels, 0)
})

t.test('Tunnels gives up on a far side that accepts and says nothing', async (t) => {
  const pair = await makeTunnelPair(t, { tunnels: { connectTimeoutMs: 20 } })
  const mute = createTcpServer().listen(0, '127.0.0.1')
  await once(mute, 'listening')
  t.teardown(() => mute.close())
  const host = {
    ...pair.target.host,
    tunnelPort: must(parsePort((mute.address() as AddressInfo).port)),
  }
  t.match(await pair.open({ host }), { reason: 'tunnel-failed', detail: /within 20 ms/ })
})

t.test('Tunnels opens another tunnel when the streams of one are used up', async (t) => {
  const pair = await makeTunnelPair(t, { listener: { maxStreams: 4 } })
  const streams = (await Promise.all(Array.from({ length: 10 }, () => pair.open()))).map(opened)
  await Promise.all(streams.map((stream) => says(stream, 'x')))
  t.equal(pair.listener.openStreams, 10)
  t.ok(pair.tunnels.openTunnels >= 3)
})

t.test('Tunnels dials a far agent that takes no streams once, and waits its time', async (t) => {
  const pair = await makeTunnelPair(t, {
    listener: { maxStreams: 0 },
    tunnels: { pingEveryMs: roundMs, openTimeoutMs: roundMs, maxTunnels: 8 },
  })
  for (const opening of [pair.open(), pair.open(), pair.open()]) {
    t.match(await opening, { reason: 'tunnel-failed', detail: /takes no streams/ })
  }
  t.equal(pair.handshakes.dialled.length, 1)
})

t.test('Tunnels sends what waits as soon as the far agent takes streams again', async (t) => {
  const pair = await makeTunnelPair(t)
  const { service, trustDomain } = pair.target
  const leaf = await pair.ca.issue({ id: serviceId(trustDomain, service) })
  const sessions: ServerHttp2Session[] = []
  const server = createSecureServer({
    cert: leaf.chainPem,
    key: leaf.keyPem,
    settings: { maxConcurrentStreams: 0 },
  })
  server.on('session', (session) => void sessions.push(session))
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200 })
    stream.pipe(stream)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const session of sessions) session.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const host = { ...pair.target.host, tunnelPort: must(parsePort(port)) }
  const opening = pair.open({ host })
  await until('our settings are taken', () => sessions[0]?.pendingSettingsAck === false)
  sessions[0]?.settings({ maxConcurrentStreams: 1 })
  await says(opened(await opening), 'now')
  t.equal(pair.handshakes.dialled.length, 1)
})

t.test(
  'Tunnels refuses as overloaded past its number of tunnels, unless one is idle',
  async (t) => {
    const pair = await makeTunnelPair(t, { tunnels: { maxTunnels: 1 } })
    const first = opened(await pair.open())
    const service = 'billing' as typeof pair.target.service
    const bills = await pair.ca.issue({ id: serviceId(pair.target.trustDomain, service) })
    const orders = await pair.ca.issue({
      id: serviceId(pair.target.trustDomain, pair.target.service),
    })
    pair.accepting.setCredentials([orders, bills])
    t.match(await pair.open({ service }), { kind: 'failed', reason: 'overloaded' })
    first.channel.abort()
    await first.sink.until((heard) => heard.closed !== undefined)
    opened(await pair.open({ service }))
    t.equal(pair.tunnels.openTunnels, 1)
  },
)

t.test('Tunnels takes a new certificate for new streams and cuts no old one', async (t) => {
  const pair = await makeTunnelPair(t)
  const old = opened(await pair.open())
  await says(old, 'before ')
  await rotate(pair)
  t.equal(old.channel.retiring, true, 'not to be kept')
  const fresh = opened(await pair.open())
  await says(fresh, 'fresh')
  await says(old, 'after')
  t.equal(old.sink.text, 'before after')
  t.equal(pair.tunnels.openTunnels, 2)
  t.equal(pair.handshakes.dialled.length, 2)
  old.channel.end()
  await old.sink.until((heard) => heard.closed === null)
  await until('the old tunnel is gone', () => pair.tunnels.openTunnels === 1)
  await says(fresh, '!')
})

t.test('Tunnels loses nothing when certificates rotate under traffic', async (t) => {
  const pair = await makeTunnelPair(t)
  const traffic = new AbortController()
  const rotations = (async () => {
    for (let i = 0; i < 8; i++) {
      await rotate(pair)
      await new Promise(setImmediate)
    }
    traffic.abort()
  })()
  let calls = 0
  const callers = Array.from({ length: 8 }, async () => {
    while (!traffic.signal.aborted) {
      const stream = opened(await pair.open())
      await says(stream, 'a word')
      stream.channel.end()
      await stream.sink.until((heard) => heard.closed !== undefined)
      t.equal(stream.sink.closed, null)
      calls++
    }
  })
  await Promise.all([...callers, rotations])
  t.ok(calls > 0, `${calls} calls`)
  await until('old tunnels are gone', () => pair.tunnels.openTunnels <= 1)
})

t.test('Tunnels without a certificate says so', async (t) => {
  const pair = await makeTunnelPair(t)
  pair.calling.setCredentials([])
  t.match(await pair.open(), { kind: 'failed', reason: 'no-credential', detail: /no certificate/ })
  await rotate(pair)
  opened(await pair.open())
})

t.test('Tunnels moves on when the far agent drains, and finishes what is open', async (t) => {
  const pair = await makeTunnelPair(t)
  const stream = opened(await pair.open())
  void pair.listener.drain()
  await until('the caller has heard', () => stream.channel.retiring)
  await says(stream, 'still here')
  t.match(await pair.open(), { reason: 'tunnel-failed', detail: /ECONNREFUSED/ })
  stream.channel.end()
  await stream.sink.until((heard) => heard.closed === null)
  await until('all tunnels are gone', () => pair.listener.openTunnels === 0)
  t.equal(pair.tunnels.openTunnels, 0)
})

t.test('Tunnels fails its streams when the far agent dies', async (t) => {
  const pair = await makeTunnelPair(t)
  const stream = opened(await pair.open())
  pair.listener.stop()
  await stream.sink.until((heard) => heard.closed !== undefined)
  t.not(stream.sink.closed, null)
  await until('the tunnel is gone', () => pair.tunnels.openTunnels === 0)
})

t.test('Tunnels finds a far agent dead that stays silent, and fails what waits', async (t) => {
  const pair = await makeTunnelPair(t, { tunnels: { pingEveryMs: roundMs } })
  const detour = await makeDetour(t, pair.listener.port)
  const host = { ...pair.target.host, tunnelPort: detour.port }
  const stream = opened(await pair.open({ host }))
  await says(stream, 'x')
  detour.freeze()
  const waiting = pair.open({ host })
  t.match(await waiting, { kind: 'failed', reason: 'tunnel-failed' })
  t.equal(stream.sink.closed, undefined, 'who waits is sent elsewhere before all is lost')
  await stream.sink.until((heard) => heard.closed !== undefined)
  t.match(stream.sink.closed?.message, /does not answer/)
})

t.test('Tunnels says which host is silent and which one speaks', async (t) => {
  const news: string[] = []
  const pair = await makeTunnelPair(t, {
    tunnels: { pingEveryMs: roundMs, missingRounds: 2, deadRounds: 1000 },
    onHost: {
      heard: ({ name }) => void news.push(`${name} heard`),
      silent: ({ name }, { service }) => void news.push(`${name} silent ${service}`),
    },
  })
  const detour = await makeDetour(t, pair.listener.port)
  const host = { ...pair.target.host, tunnelPort: detour.port }
  const stream = opened(await pair.open({ host }))
  await says(stream, 'x')
  await until('it is heard', () => news.includes('h2 heard'))
  detour.freeze()
  await until('it is silent', () => news.includes('h2 silent orders'))
  t.equal(stream.sink.closed, undefined)
  pair.tunnels.answersAgain(host)
  await stream.sink.until((heard) => heard.closed !== undefined)
  t.match(stream.sink.closed?.message, /through new tunnels only/)
})

t.test('Tunnels says which host nobody answers at, and not which one only refuses', async (t) => {
  const news: string[] = []
  const onHost = { heard() {}, silent: ({ name }: { name: string }) => void news.push(name) }
  const refusing = await makeTunnelPair(t, { onHost, serviceCa: await makeTestCa() })
  t.match(await refusing.open(), { kind: 'failed', reason: 'tunnel-refused-identity' })
  t.same(news, [])
  const pair = await makeTunnelPair(t, { onHost })
  pair.listener.stop()
  await until('nobody listens', async () => {
    t.match(await pair.open(), { kind: 'failed', reason: 'tunnel-failed' })
    return news.length > 0
  })
  t.equal(news[0], 'h2')
})

t.test('Tunnels keeps a silent tunnel whose far agent answers', async (t) => {
  const pair = await makeTunnelPair(t, { tunnels: { pingEveryMs: roundMs } })
  const stream = opened(await pair.open())
  let rounds = 0
  await until('many rounds have passed', () => ++rounds > 160)
  await says(stream, 'still here')
  t.equal(pair.tunnels.openTunnels, 1)
})

t.test('Tunnels closes a tunnel that has been idle', async (t) => {
  const pair = await makeTunnelPair(t, { tunnels: { pingEveryMs: roundMs, idleMs: roundMs } })
  const stream = opened(await pair.open())
  stream.channel.end()
  await stream.sink.until((heard) => heard.closed === null)
  await until('the tunnel is gone', () => pair.tunnels.openTunnels === 0)
  await until('on both sides', () => pair.listener.openTunnels === 0)
  opened(await pair.open())
})

t.test('Tunnels gives up on a far agent that never answers CONNECT', async (t) => {
  const pair = await makeTunnelPair(t, {
    onStream() {},
    tunnels: { pingEveryMs: roundMs, openTimeoutMs: roundMs },
  })
  t.match(await pair.open(), { kind: 'failed', reason: 'tunnel-failed', detail: /in time/ })
})

t.test('Tunnels, stopped, refuses new streams and ends old ones', async (t) => {
  const pair = await makeTunnelPair(t)
  const stream = opened(await pair.open())
  pair.tunnels.stop()
  await stream.sink.until((heard) => heard.closed !== undefined)
  t.match(await pair.open(), { kind: 'failed', reason: 'draining' })
})

t.test('Tunnels holds little for a slow reader, and loses nothing', async (t) => {
  const total = 32 * 1024 * 1024
  let sent = 0
  const piece = Buffer.alloc(65_536, 'x')
  const pair = await makeTunnelPair(t, {
    onStream: ({ stream }) => {
      stream.accept()
      const pump = (): void => {
        while (sent < total) {
          sent += piece.length
          if (!stream.write(piece)) return
        }
        stream.end()
      }
      stream.sink = { onData() {}, onEnd() {}, onDrain: pump, onClose() {} }
      pump()
    },
  })
  const { channel, sink } = opened(await pair.open())
  channel.pause()
  const settled = async (): Promise<void> => {
    for (let before = -1; before !== sent;) {
      before = sent
      for (let i = 0; i < 20; i++) await new Promise(setImmediate)
    }
  }
  await settled()
  t.ok(sent - sink.bytes < 3 * 1024 * 1024, `${sent} bytes under way`)
  channel.resume()
  await sink.until((heard) => heard.bytes > total / 2)
  channel.pause()
  await settled()
  t.ok(sent - sink.bytes < 12 * 1024 * 1024, `${sent - sink.bytes} bytes under way`)
  channel.resume()
  await sink.until((heard) => heard.ended)
  t.equal(sink.bytes, total)
})

t.test('Tunnels bears thousands of short and aborted streams beside a long download', async (t) => {
  const piece = Buffer.alloc(16_384, 'x')
  const pair = await makeTunnelPair(t, {
    onStream: (call) => {
      if (!call.authority.startsWith('long')) {
        echo(call)
        return
      }
      const { stream } = call
      stream.accept()
      const pump = (): void => {
        if (stream.closed) return
        if (stream.write(piece)) setImmediate(pump)
      }
      stream.sink = { onData() {}, onEnd() {}, onDrain: pump, onClose() {} }
      pump()
    },
  })
  const long = opened(await pair.open({ authority: 'long.orders.mesh:1' }))
  const churn = async (aborts: boolean): Promise<void> => {
    for (let i = 0; i < 25; i++) {
      const stream = opened(await pair.open())
      await says(stream, 'x')
      if (aborts) stream.channel.abort()
      else stream.channel.end()
      await stream.sink.until((heard) => heard.closed !== undefined)
    }
  }
  await Promise.all(Array.from({ length: 100 }, (_, i) => churn(i % 2 === 0)))
  t.equal(pair.calls.length, 2501)
  t.equal(pair.handshakes.dialled.length, 1, 'one tunnel bore it all')
  const before = long.sink.bytes
  await long.sink.until((heard) => heard.bytes > before)
  long.channel.abort()
})

t.test('Tunnels opens the next stream on one whose bytes nobody reads, too', async (t) => {
  const pair = await makeTunnelPair(t)
  const stuck = opened(await pair.open())
  stuck.channel.pause()
  const piece = Buffer.alloc(65_536)
  let writer: Channel | null = stuck.channel
  while (writer !== null) if (!writer.write(piece)) writer = null
  const other = opened(await pair.open())
  await says(other, 'not held up')
  stuck.channel.abort()
  await stuck.sink.until((heard) => heard.closed === null)
})
