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

const get = (path: string, ...lines: string[]) =>
  `GET ${path} HTTP/1.1\r\nHost: orders\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`
const ok = (body: string, ...lines: string[]) =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n${body}`

t.test('a channel is used again after whole messages', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call()
  for (let i = 0; i < 5; i++) {
    caller.write(get(`/${i}`))
    const peer = await service.peer(0)
    await peer.until(`GET /${i} `)
    peer.write(ok(`body ${i}`))
    await caller.until(`body ${i}`)
    await rig.until(() => rig.upstreams[0]?.pool.idle === 1)
  }
  t.equal(service.peers.length, 1)
  t.same(
    rig.outcomes.map(({ reason, attempts }) => [reason, attempts]),
    Array.from({ length: 5 }, () => ['ok', 1]),
  )
})

t.test('requests that come together are answered one by one, in order', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(get('/0') + get('/1') + get('/2').slice(0, 9))
  const first = await service.peer(0)
  await first.until('GET /0 ')
  t.notMatch(first.text, 'GET /1', 'the second waits for the first')
  first.write(ok('zero'))
  const second = await service.peer(1)
  await second.until('GET /1 ')
  second.write(ok('one'))
  await caller.until('one')
  caller.write(get('/2').slice(9))
  const heard: string[] = []
  for (const peer of [first, second]) {
    peer.socket.on('data', () => {
      if (!peer.text.includes('GET /2 ')) return
      heard.push('two')
      peer.write(ok('two'))
    })
  }
  await caller.until('two')
  t.match(caller.text, /zero[\s\S]*one[\s\S]*two/)
  t.equal(heard.length, 1)
  t.equal(rig.outcomes.length, 3)
})

t.test('requests sent before a half-close are all answered', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(get('/0') + get('/1'))
  caller.end()
  const first = await service.peer(0)
  await first.until('GET /0 ')
  first.write(ok('zero'))
  const second = await service.peer(1)
  await second.until('GET /1 ')
  second.write(ok('one'))
  t.match(await caller.untilEnd(), /zero[\s\S]*connection: close[\s\S]*one$/)
})

t.test(
  'a byte too many spoils the channel, in the same piece or while it is given back',
  async (t) => {
    for (const extra of ['X', ok('poison'), '\r\n']) {
      for (const together of [true, false]) {
        const { service, rig } = await rigWith(t)
        const caller = await rig.call(get('/0'))
        const first = await service.peer(0)
        await first.until('\r\n\r\n')
        first.write(together ? ok('zero') + extra : ok('zero'))
        await caller.until('zero')
        if (!together) {
          await rig.until(() => rig.upstreams[0]?.pool.idle === 1)
          first.write(extra)
        }
        await first.untilClosed()
        caller.write(get('/1'))
        const second = await service.peer(1)
        await second.until('GET /1 ')
        second.write(ok('one'))
        await caller.until('one')
        t.notMatch(caller.text, 'poison')
        t.match(caller.text, /zero[\s\S]*one$/)
        rig.stop()
        service.stop()
      }
    }
  },
)

t.test('a second response never answers a request that was waiting already', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(get('/0') + get('/1'))
  const first = await service.peer(0)
  await first.until('\r\n\r\n')
  // The response ends exactly where one read of the socket does, the poison is in the next.
  const size = 65_536
  const head = `HTTP/1.1 200 OK\r\nContent-Length: `
  const body = 'a'.repeat(size - head.length - 5 - 4)
  const message = `${head}${body.length}\r\n\r\n${body}`
  t.equal(message.length, size)
  first.write(message + ok('poison'))
  const second = await service.peer(1)
  await second.until('GET /1 ')
  second.write(ok('one'))
  await caller.until('one')
  t.notMatch(caller.text, 'poison')
  t.notMatch(first.text, 'GET /1 ')
})

t.test('a body on an answer that has none spoils the channel', async (t) => {
  for (const [method, answer] of [
    ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison'],
    ['GET', 'HTTP/1.1 204 No\r\n\r\npoison'],
    ['GET', 'HTTP/1.1 304 No\r\nContent-Length: 6\r\n\r\npoison'],
    ['GET', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\npoison'],
  ] as const) {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(`${method} / HTTP/1.1\r\nHost: orders\r\n\r\n`)
    const first = await service.peer(0)
    await first.until('\r\n\r\n')
    first.write(answer)
    await first.untilClosed()
    await rig.recorded(1)
    t.notMatch(caller.text, 'poison')
    t.equal(rig.upstreams[0]?.pool.idle, 0)
  }
})

t.test('bytes on an idle channel, before any request, end it', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(get('/0'))
  const first = await service.peer(0)
  await first.until('\r\n\r\n')
  first.write(ok('zero'))
  await rig.until(() => rig.upstreams[0]?.pool.idle === 1)
  first.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison')
  await first.untilClosed()
  caller.write(get('/1'))
  await (await service.peer(1)).until('GET /1 ')
  t.notMatch(caller.text, 'poison')
})

t.test('a channel is not kept when the response, or the kind of request, forbids it', async (t) => {
  const cases: readonly (readonly [string, string, string])[] = [
    ['connection: close', get('/'), ok('', 'Connection: close')],
    ['HTTP/1.0', get('/'), 'HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n'],
    ['NTLM request', get('/', 'Authorization: NTLM abc'), ok('')],
    ['Negotiate response', get('/'), ok('', 'WWW-Authenticate: Negotiate')],
    [
      'refused upgrade',
      get('/', 'Connection: upgrade', 'Upgrade: websocket'),
      ok('', 'Sec-WebSocket-Version: 13'),
    ],
  ]
  for (const [what, request, answer] of cases) {
    const { service, rig } = await rigWith(t)
    await rig.call(request)
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    peer.write(answer)
    await rig.recorded(1)
    await peer.untilEnd()
    t.equal(rig.upstreams[0]?.pool.idle, 0, what)
    t.same(rig.upstreams[0]?.results, ['ok'], what)
  }
})

t.test('a channel whose answer began before the body was whole never serves another', async (t) => {
  const { service, rig } = await rigWith(t, { direction: 'inbound' })
  const poison = 'GET /poison HTTP/1.1\r\nHost: orders\r\n\r\n'
  const caller = await rig.call(
    `POST /login HTTP/1.1\r\nHost: orders\r\nContent-Length: ${2 + poison.length}\r\n\r\nab`,
  )
  const first = await service.peer(0)
  await first.until('\r\n\r\nab')
  // It reads no body: for it what comes next is another request.
  first.write('HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\nhalf')
  await caller.until('half')
  caller.write(poison)
  await first.until('GET /poison')
  first.write('-rest')
  await Promise.race([first.untilClosed(), rig.until(() => rig.upstreams[0]?.pool.idle === 1)])
  t.equal(rig.upstreams[0]?.pool.idle, 0)
  t.match(await caller.untilEnd(), /^HTTP\/1\.1 401 [\s\S]*connection: close[\s\S]*half-rest$/)
  t.match(await rig.recorded(1), { reason: 'ok', status: 401 })
  t.same(rig.upstreams[0]?.results, ['ok'])
  const other = await rig.call(get('/mine'))
  const second = await service.peer(1)
  await second.until('GET /mine ')
  first.write(ok('poisoned'))
  second.write(ok('mine'))
  await other.until('mine')
  t.notMatch(other.text, 'poisoned')
})

t.test('what the kernel has yet to take of a body counts as not sent', async (t) => {
  const { FakeChannel } = await import('#test/support/fake-channel.ts')
  for (const waiting of [1, 0]) {
    const { rig } = await rigWith(t)
    const service = new FakeChannel()
    const [upstream] = rig.upstreams
    Object.assign(upstream ?? {}, {
      open: (opener: { onOpen(channel: typeof service): void }) => opener.onOpen(service),
    })
    const caller = new FakeChannel()
    rig.relay(caller).start()
    caller.says('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 4\r\n\r\nbody')
    service.waitingBytes = waiting
    service.says('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha')
    service.waitingBytes = 0
    service.says('lf')
    t.match(caller.heard, /half$/)
    t.notMatch(caller.heard, 'connection: close', 'the caller’s own connection is whole')
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    t.equal(service.aborted, waiting === 1)
    t.equal(upstream?.pool.idle, 1 - waiting)
    rig.stop()
  }
})

t.test('an interim answer amid the body says nothing against the channel', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 4\r\n\r\n')
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  peer.write('HTTP/1.1 103 Early Hints\r\n\r\n')
  await caller.until('103')
  caller.write('body')
  await peer.until('body')
  peer.write(ok('fine'))
  await caller.until('fine')
  await rig.until(() => rig.upstreams[0]?.pool.idle === 1)
})

t.test('a service that says close and does not close is left all the same', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(get('/0'))
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  peer.write(ok('zero', 'Connection: close'))
  await peer.untilEnd()
  await caller.until('zero')
  t.notMatch(caller.text, 'connection: close', 'the caller’s connection stays')
  t.equal(rig.watch.size, 2, 'the caller’s connection and the parting')
  peer.end()
  await peer.untilClosed()
  caller.write(get('/1'))
  await (await service.peer(1)).until('GET /1 ')
})

t.test('a caller that goes away takes its request with it, counted once', async (t) => {
  for (const goodbye of ['reset', 'close'] as const) {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(
      'POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 10\r\n\r\nhalf',
    )
    const peer = await service.peer(0)
    await peer.until('half')
    if (goodbye === 'reset') caller.reset()
    else caller.socket.destroy()
    await peer.untilClosed()
    t.match(await rig.recorded(1), { reason: 'caller-aborted', status: 499 })
    t.same(rig.upstreams[0]?.results, ['abandoned'])
    t.equal(rig.outcomes.length, 1)
  }
})

t.test('a caller that resets during a response is counted once, with its status', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(get('/'))
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  peer.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf')
  await caller.until('half')
  caller.reset()
  await peer.untilClosed()
  t.match(await rig.recorded(1), { reason: 'caller-aborted', status: 200 })
})

t.test('a caller that has half-closed still gets its answer', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 4\r\n\r\nbody')
  caller.end()
  const peer = await service.peer(0)
  await peer.until('body')
  peer.write(ok('late'))
  t.match(await caller.untilEnd(), 'connection: close\r\n\r\nlate')
  t.match(await rig.recorded(1), { reason: 'ok' })
})

t.test('a channel that opens for a request that is over never serves the next', async (t) => {
  const [one, two] = [await RawServer.listen(), await RawServer.listen()]
  t.teardown(() => {
    one.stop()
    two.stop()
  })
  const rig: RelayRig = await RelayRig.start(t, {
    upstreams: [{ port: one.port }, { port: two.port, name: 'i2' }],
    decide: (head) => rig.forwardTo(head.target === '/one' ? 0 : 1),
  })
  const opens: (() => void)[] = []
  const upstream = rig.upstreams[0]
  const open = upstream?.open.bind(upstream)
  Object.assign(upstream ?? {}, { open: (opener: never) => opens.push(() => open?.(opener)) })
  const { FakeChannel } = await import('#test/support/fake-channel.ts')
  const caller = new FakeChannel()
  const relay = rig.relay(caller)
  relay.start()
  caller.says(get('/one'))
  t.equal(opens.length, 1, 'the first request waits for its channel')
  relay.deadline = 0
  relay.expired()
  t.match(caller.heard, '504 Gateway Timeout')
  caller.says(get('/two'))
  const second = await two.peer(0)
  await second.until('GET /two ')
  for (const run of opens) run()
  const stale = await one.peer(0)
  await stale.untilClosed()
  t.equal(stale.text, '', 'nothing was sent to the first')
  second.write(ok('two'))
  await rig.recorded(2)
  t.match(caller.heard, /two$/)
  caller.close(null)
})
