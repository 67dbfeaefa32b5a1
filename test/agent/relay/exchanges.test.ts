/** Shows what an HTTP relay does in every turn an exchange can take, between channels of memory. */

import t from 'tap'
import { MemoryUpstream, RelayBench } from '#test/support/relay-bench.ts'

const get = 'GET /a HTTP/1.1\r\nHost: orders.mesh\r\n\r\n'
const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const post = (body: string): string =>
  `POST /p HTTP/1.1\r\nHost: orders.mesh\r\nContent-Length: ${body.length}\r\n\r\n${body}`

t.test('a channel serves the next request after a clean exchange', async (t) => {
  const bench = new RelayBench()
  for (let i = 0; i < 3; i++) {
    bench.caller.deliver(get)
    bench.upstream.last.deliver(ok)
    await settle()
  }
  t.equal(bench.upstream.opened.length, 1)
  t.same(bench.endings, ['200 ok', '200 ok', '200 ok'])
  t.same(bench.upstream.results, ['ok', 'ok', 'ok'])
})

for (const [what, response] of [
  ['a byte too many', `${ok}X`],
  ['a second response', ok + ok],
  ['Connection: close', 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok'],
  ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok'],
  ['NTLM', 'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic, NTLM\r\nContent-Length: 2\r\n\r\nok'],
  ['a body after 204', 'HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok'],
] as const) {
  t.test(`a channel is not kept after ${what}`, async (t) => {
    const bench = new RelayBench()
    bench.caller.deliver(get)
    const [first] = bench.upstream.opened
    first?.deliver(response)
    await settle()
    t.equal(bench.upstream.idle.length, 0)
    bench.caller.deliver(get)
    if (bench.upstream.opened.length > 1) bench.upstream.last.deliver(ok)
    await settle()
    t.notMatch(bench.caller.text, /okok|okX/)
    t.equal(first?.text.match(/GET/g)?.length, 1)
  })
}

t.test('pipelined requests are answered in order, one at a time', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(
    'GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n' + post('hey'),
  )
  t.notMatch(bench.upstream.last.text, /\/2/)
  for (const [i, path] of ['/1', '/2', '/p'].entries()) {
    const asked = bench.upstream.opened.find(({ text }) => text.includes(` ${path} HTTP`))
    asked?.deliver(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${i + 1}`)
    await settle()
  }
  t.match(bench.caller.text, /\r\n1HTTP[^]*\r\n2HTTP[^]*\r\n3$/)
  t.equal(bench.upstream.opened.length, 2, 'none waits where a byte too many could answer it')
  t.same(
    bench.outcomes.map(({ path }) => path),
    ['/1', '/2', '/p'],
  )
})

for (const method of ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'POST', 'PATCH'] as const) {
  const isSafe = !['POST', 'PATCH'].includes(method)
  t.test(
    `${method} is ${isSafe ? '' : 'not '}sent again when a channel ends before any response`,
    async (t) => {
      const bench = new RelayBench()
      bench.caller.deliver(`${method} /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc`)
      bench.upstream.last.deliverEnd()
      bench.upstream.opened[0]?.deliverClose()
      await settle()
      t.equal(bench.upstream.opened.length, isSafe ? 2 : 1)
      if (isSafe) {
        t.match(bench.upstream.last.text, /abc$/)
        bench.upstream.last.deliver(method === 'HEAD' ? 'HTTP/1.1 200 OK\r\n\r\n' : ok)
        await settle()
      }
      t.same(bench.endings, [isSafe ? '200 ok' : '502 instance-aborted'])
      t.equal(bench.upstream.results.length, bench.upstream.begun)
    },
  )
}

t.test('nothing is sent again after a byte of a response', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(get)
  bench.upstream.last.deliver('H')
  bench.upstream.last.deliverClose({ code: 'ECONNRESET', message: 'reset' })
  await settle()
  t.equal(bench.upstream.opened.length, 1)
  t.same(bench.endings, ['502 instance-aborted'])
})

t.test('a body past the limit is not held for another attempt', async (t) => {
  const bench = new RelayBench({ relay: { maxHeldBytes: 10 } })
  bench.caller.deliver('PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n0123456789')
  bench.caller.deliver('0123456789')
  bench.upstream.last.deliverEnd()
  await settle()
  t.equal(bench.upstream.opened.length, 1)
  t.same(bench.endings, ['502 instance-aborted'])
})

t.test(
  'any method goes elsewhere when an upstream cannot be opened, three times at most',
  async (t) => {
    const [down, up] = [new MemoryUpstream(), new MemoryUpstream()]
    down.failure = 'instance-refused'
    const bench = new RelayBench({ upstreams: [down, up] })
    bench.caller.deliver(post('body'))
    up.last.deliver(ok)
    await settle()
    t.match(up.last.text, /\r\n\r\nbody$/)
    t.same(bench.endings, ['200 ok'])
    t.equal(bench.outcomes[0]?.attempts, 2)
    const never = new RelayBench({ upstreams: [down] })
    never.caller.deliver(post('body'))
    await settle()
    t.same(never.endings, ['503 instance-refused'])
    t.equal(never.outcomes[0]?.attempts, 3)
    t.match(never.caller.text, /x-mesh-reason: instance-refused/)
  },
)

t.test('a peer agent that passed nothing on is left for another, with any method', async (t) => {
  const upstream = new MemoryUpstream({ mtls: true })
  const bench = new RelayBench({ upstreams: [upstream] })
  bench.caller.deliver(post('body'))
  upstream.last.deliver('HTTP/1.1 503 No\r\nx-mesh-reason: draining\r\nContent-Length: 0\r\n\r\n')
  await settle()
  t.equal(upstream.opened.length, 2)
  t.match(upstream.last.text, /\r\n\r\nbody$/)
  upstream.last.deliver(ok)
  await settle()
  t.same(bench.endings, ['200 ok'])
})

t.test('a service cannot speak as a peer agent', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(post('body'))
  bench.upstream.last.deliver(
    'HTTP/1.1 503 No\r\nX-Mesh-Reason: draining\r\nx_mesh_reason: a\r\nContent-Length: 0\r\n\r\n',
  )
  await settle()
  t.equal(bench.upstream.opened.length, 1)
  t.notMatch(bench.caller.text, /mesh.reason/i)
  t.same(bench.endings, ['503 ok'])
})

t.test('a body that arrives while the upstream opens is held, bounded, and sent', async (t) => {
  const upstream = new MemoryUpstream()
  upstream.isSlow = true
  const bench = new RelayBench({ upstreams: [upstream], relay: { maxHeldBytes: 8 } })
  bench.caller.deliver('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n0123')
  if (!bench.caller.paused) bench.caller.deliver('456789')
  t.ok(bench.caller.paused)
  upstream.waiting[0]?.onOpen(upstream.add())
  t.notOk(bench.caller.paused)
  const sent = upstream.last.text.slice(upstream.last.text.indexOf('\r\n\r\n') + 4)
  bench.caller.deliver('0123456789ab'.slice(sent.length))
  t.match(upstream.last.text, /\r\n\r\n0123456789ab$/)
  upstream.last.deliver(ok)
  await settle()
  t.same(bench.endings, ['200 ok'])
})

t.test('backpressure goes from the upstream to the caller and back', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n')
  const channel = bench.upstream.last
  channel.hasRoom = false
  bench.caller.deliver('x'.repeat(10_000))
  t.ok(bench.caller.paused, 'caller waits for the upstream')
  channel.drain()
  t.notOk(bench.caller.paused, 'caller goes on')
  bench.caller.deliver('x'.repeat(20_000))
  channel.deliver('HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n')
  bench.caller.hasRoom = false
  channel.deliver(Buffer.alloc(10_000, 'y'))
  t.ok(channel.paused, 'upstream waits for the caller')
  bench.caller.drain()
  t.notOk(channel.paused, 'upstream goes on')
  channel.deliver(Buffer.alloc(10_000, 'y'))
  await settle()
  t.same(bench.endings, ['200 ok'])
  t.notOk(channel.paused, 'no idle channel is paused')
})

t.test('an idle channel is never paused when the last bytes filled the caller', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(get)
  bench.caller.hasRoom = false
  bench.upstream.last.deliver(
    `HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n${'y'.repeat(10_000)}`,
  )
  await settle()
  t.equal(bench.upstream.idle.length, 1)
  t.notOk(bench.upstream.last.paused)
})

t.test('a caller that pipelines and never reads is not read either', async (t) => {
  const bench = new RelayBench()
  bench.caller.hasRoom = false
  bench.caller.deliver(get)
  bench.upstream.last.deliver(ok)
  await settle()
  bench.caller.deliver(get.repeat(5))
  await settle()
  t.equal(bench.upstream.last.text.match(/GET/g)?.length, 1, 'the next request waits')
  bench.caller.drain()
  await settle()
  t.equal(bench.upstream.last.text.match(/GET/g)?.length, 2)
})

t.test(
  'an early response is given, then the connection ends and the channel is dropped',
  async (t) => {
    const bench = new RelayBench()
    bench.caller.deliver('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc')
    bench.upstream.last.deliver('HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno')
    await settle()
    t.match(bench.caller.text, /413[^]*connection: close[^]*no$/)
    t.ok(bench.caller.ended)
    t.notOk(bench.caller.aborted, 'what still comes is read, so that the answer survives')
    t.equal(bench.upstream.idle.length, 0)
    t.same(bench.endings, ['413 ok'])
  },
)

t.test(
  'a caller that goes is recorded once and its upstream aborted, whenever it goes',
  async (t) => {
    for (const step of ['opening', 'waiting', 'body'] as const) {
      const upstream = new MemoryUpstream()
      upstream.isSlow = step === 'opening'
      const bench = new RelayBench({ upstreams: [upstream] })
      bench.caller.deliver(get)
      if (step === 'body') upstream.last.deliver('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc')
      bench.caller.deliverClose({ code: 'ECONNRESET', message: 'reset' })
      if (step === 'opening') upstream.waiting[0]?.onOpen(upstream.add())
      else upstream.last.deliverClose({ code: 'ECONNRESET', message: 'reset' })
      await settle()
      t.equal(bench.outcomes.length, 1, step)
      t.equal(bench.outcomes[0]?.reason, 'caller-aborted', step)
      if (step !== 'opening') t.ok(upstream.last.aborted, step)
      t.equal(upstream.results.length, 1, step)
      t.equal(bench.watch.size, 0, step)
    }
  },
)

t.test('a response cut short breaks the caller’s connection, and is recorded', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(get)
  bench.upstream.last.deliver('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc')
  bench.upstream.last.deliverEnd()
  await settle()
  t.ok(bench.caller.aborted)
  t.same(bench.endings, ['200 instance-aborted'])
  t.same(bench.upstream.results, ['reset'])
})

t.test(
  'a body until the end reaches a caller in chunks, and an HTTP/1.0 caller as it is',
  async (t) => {
    for (const version of ['1.1', '1.0'] as const) {
      const bench = new RelayBench()
      bench.caller.deliver(`GET / HTTP/${version}\r\nHost: a\r\n\r\n`)
      bench.upstream.last.deliver('HTTP/1.1 200 OK\r\n\r\nabc')
      bench.upstream.last.deliverEnd()
      await settle()
      t.match(
        bench.caller.text,
        version === '1.1' ? /\r\n\r\n3\r\nabc\r\n0\r\n\r\n$/ : /close\r\n\r\nabc$/,
      )
      t.equal(bench.caller.ended, version === '1.0')
      t.same(bench.endings, ['200 ok'])
    }
  },
)

t.test('chunks for an HTTP/1.0 caller lose their framing', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver('GET / HTTP/1.0\r\n\r\n')
  t.match(bench.upstream.last.text, /^GET \/ HTTP\/1\.1\r\n[^]*host: orders\.mesh\r\n/i)
  bench.upstream.last.deliver(
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n',
  )
  await settle()
  t.match(bench.caller.text, /\r\n\r\nabc$/)
  t.notMatch(bench.caller.text, /chunked/)
})

t.test('100 and 103 go on before the answer, and a flood of them does not', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(
    'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n',
  )
  t.match(bench.upstream.last.text, /expect: 100-continue/i)
  bench.upstream.last.deliver(
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n',
  )
  t.match(bench.caller.text, /100 Continue\r\n\r\nHTTP\/1\.1 103/)
  bench.caller.deliver('abc')
  bench.upstream.last.deliver(ok)
  await settle()
  t.same(bench.endings, ['200 ok'])
  t.equal(bench.upstream.idle.length, 1)
})

t.test('after a 101 bytes go both ways, early ones only then', async (t) => {
  const bench = new RelayBench()
  const upgrade = 'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
  bench.caller.deliver(`${upgrade}EARLY`)
  const channel = bench.upstream.last
  t.notMatch(channel.text, /EARLY/)
  channel.deliver(
    'HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello',
  )
  t.match(bench.caller.text, /101 [^]*\r\n\r\nhello$/)
  t.match(channel.text, /\r\n\r\nEARLY$/)
  bench.caller.deliver('ping')
  t.match(channel.text, /ping$/)
  channel.deliverEnd()
  t.ok(bench.caller.ended)
  bench.caller.deliverEnd()
  channel.deliverClose()
  bench.caller.deliverClose()
  await settle()
  t.same(bench.endings, ['101 ok'])
  t.equal(bench.watch.size, 0)
})

t.test('early bytes of a refused upgrade are no next request', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(
    `GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n`,
  )
  bench.upstream.last.deliver(ok)
  await settle()
  t.same(bench.steps.heads.length, 1)
  t.ok(bench.caller.ended)
})

t.test('a switch nobody asked for is a bad response', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(get)
  bench.upstream.last.deliver('HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
  await settle()
  t.same(bench.endings, ['502 bad-response'])
})

t.test('CONNECT and TRACE are refused by name', async (t) => {
  for (const line of ['CONNECT a:443', 'TRACE /']) {
    const bench = new RelayBench()
    bench.caller.deliver(`${line} HTTP/1.1\r\nHost: a:443\r\n\r\n`)
    await settle()
    t.same(bench.endings, ['405 method-refused'])
    t.equal(bench.upstream.opened.length, 0)
  }
})

t.test('time ends slow heads, stalled bodies, silent services and silent callers', async (t) => {
  const head = new RelayBench()
  head.caller.deliver('GET / HT')
  await head.clock.advance(12_000)
  t.same(head.endings, ['408 head-timeout'])
  const body = new RelayBench()
  body.caller.deliver('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab')
  await body.clock.advance(30_000)
  body.caller.deliver('c')
  await body.clock.advance(45_000)
  t.same(body.endings, [], 'a byte buys time')
  await body.clock.advance(20_000)
  t.same(body.endings, ['408 body-timeout'])
  t.ok(body.upstream.last.aborted)
  const silent = new RelayBench()
  silent.caller.deliver(get)
  await silent.clock.advance(302_000)
  t.same(silent.endings, ['504 response-timeout'])
})

t.test(
  'draining answers the request under way with close, and lets idle callers go soon',
  async (t) => {
    const bench = new RelayBench()
    bench.caller.deliver(get)
    bench.relay.drain()
    bench.upstream.last.deliver(ok)
    await settle()
    t.match(bench.caller.text, /connection: close/)
    t.ok(bench.caller.ended)
    const idle = new RelayBench()
    const drained = idle.watch.drain()
    await idle.clock.advance(5000)
    t.ok(idle.caller.ended)
    idle.caller.deliverClose()
    await drained
  },
)

t.test('identity fields of a caller never reach a service, in any disguise', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(
    'POST / HTTP/1.1\r\nHost: a\r\nX-Mesh-Source: evil\r\nx_mesh_source: evil\r\nX-MESH-Other: evil\r\n' +
      'X-Forwarded-For: evil\r\nX_Forwarded_For: evil\r\nForwarded: for=evil\r\nX-Request-ID: evil\r\n' +
      'X-Forwarded-Client-Cert: evil\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: evil\r\nProxy-Authorization: evil\r\n' +
      'Connection: x-request-id, x-mesh-source, x-secret\r\nX-Secret: evil\r\nKeep: good\r\n' +
      'Transfer-Encoding: chunked\r\n\r\n0\r\nX-Mesh-Source: evil\r\nHost: evil\r\nContent-Length: 9\r\nX-Sum: good\r\n\r\n',
  )
  const { text } = bench.upstream.last
  t.notMatch(text, /evil/)
  t.match(text, /Keep: good/i)
  t.match(text, /x-sum: good\r\n\r\n$/i)
  t.match(text, /x-mesh-source: spiffe:\/\/mesh\.internal\/service\/web\r\n/)
  t.match(text, /x-forwarded-for: 10\.0\.0\.7\r\n/)
})

t.test(
  'the inbound side keeps what the peer agent told and proves the caller itself',
  async (t) => {
    const bench = new RelayBench({ direction: 'inbound' })
    bench.caller.deliver(
      'GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\nX-Forwarded-For: 1.2.3.4\r\nX-Mesh-Source: evil\r\n\r\n',
    )
    const { text } = bench.upstream.last
    t.match(text, /x-request-id: abc\r\n/i)
    t.match(text, /x-forwarded-for: 1\.2\.3\.4\r\n/i)
    t.notMatch(text, /evil/)
    t.match(text, /x-mesh-source: spiffe:\/\/mesh\.internal\/service\/web\r\n/)
    bench.upstream.last.deliver(ok)
    await settle()
    t.equal(bench.outcomes[0]?.requestId, 'abc')
  },
)

t.test('a head of one byte at a time costs what its length costs', async (t) => {
  const bench = new RelayBench()
  const head = Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(60_000)}\r\n\r\n`)
  const started = process.cpuUsage()
  for (let at = 0; at < head.length; at++) bench.caller.deliver(head.subarray(at, at + 1))
  const { user } = process.cpuUsage(started)
  t.equal(bench.steps.heads.length, 1)
  // A quadratic reader copies 1.8 GB here; counted in CPU, generously, since the machine is shared.
  t.ok(user < 3_000_000, `${user} µs`)
})

for (const [what, bytes] of [
  ['two Hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'],
  ['no Host', 'GET / HTTP/1.1\r\n\r\n'],
  ['an empty Host beside a URL', 'GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n'],
  ['a Host with user information', 'GET / HTTP/1.1\r\nHost: u@a\r\n\r\n'],
  ['a Host with a comma', 'GET / HTTP/1.1\r\nHost: a, b\r\n\r\n'],
  [
    'two Content-Lengths',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx',
  ],
  ['a list of lengths', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx'],
  ['a signed length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx'],
  ['a huge length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nx'],
  [
    'length and chunks',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  [
    'gzip, chunked',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
  ],
  [
    'chunked twice',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['xchunked', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
  [
    'a padded chunked',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n',
  ],
  ['Transfer_Encoding', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n'],
  ['chunks in HTTP/1.0', 'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a folded line', 'GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n'],
  ['a space before the colon', 'GET / HTTP/1.1\r\nHost : a\r\n\r\n'],
  ['a bare LF', 'GET / HTTP/1.1\nHost: a\r\n\r\n'],
  ['a bare CR', 'GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n'],
  ['a NUL', 'GET / HTTP/1.1\r\nHost: a\r\nX: 1\0\r\n\r\n'],
  ['an empty name', 'GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n'],
  ['a tab in the request line', 'GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['two spaces in the request line', 'GET  / HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['HTTP/1.2', 'GET / HTTP/1.2\r\nHost: a\r\n\r\n'],
  ['HTTP/2.0', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['a fragment', 'GET /a#x HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['a backslash', 'GET /a\\..\\b HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['a byte past ASCII in the target', 'GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['a target without slash', 'GET a HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['another host in the target', 'GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['https in the target', 'GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['* with GET', 'GET * HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['a nominated Host', 'GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n'],
  [
    'a nominated Content-Length',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: content-length\r\n\r\nx',
  ],
  [
    'an unknown Expect',
    'POST / HTTP/1.1\r\nHost: a\r\nExpect: y 100-continue\r\nContent-Length: 1\r\n\r\nx',
  ],
  [
    'a chunk extension',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n',
  ],
  [
    'a chunk size with 0x',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n',
  ],
  [
    'a chunk that ends wrongly',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n',
  ],
  [
    'a chunk that ends in LF',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n',
  ],
  [
    'a chunk size past 64 bits',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000001\r\nx\r\n',
  ],
] as const) {
  t.test(`${what} is refused, and the connection ends`, async (t) => {
    const bench = new RelayBench()
    bench.caller.deliver(Buffer.from(bytes, 'latin1'))
    await settle()
    t.match(bench.caller.text, /^HTTP\/1\.1 (400|417|501|505) [^]*\r\nconnection: close\r\n/)
    t.ok(bench.caller.ended)
    t.equal(bench.outcomes.length, 1)
    t.equal(bench.upstream.idle.length, 0)
    t.ok(bench.upstream.opened.every(({ aborted }) => aborted))
  })
}

for (const [what, bytes] of [
  ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok'],
  [
    'length and chunks',
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['another coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok'],
  ['no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['HTTP/2', 'HTTP/2 200\r\n\r\n'],
  ['a folded line', 'HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n'],
  ['a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 2\n\nok'],
  ['a head past the limit', `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(70_000)}\r\n\r\n`],
] as const) {
  t.test(`a response with ${what} is refused, and its channel dropped`, async (t) => {
    const bench = new RelayBench()
    bench.caller.deliver(get)
    bench.upstream.last.deliver(bytes)
    await settle()
    t.same(bench.endings, ['502 bad-response'])
    t.ok(bench.upstream.last.aborted)
    t.same(bench.upstream.results, ['reset'])
  })
}

t.test('heads past their limits are refused by name', async (t) => {
  const large = new RelayBench()
  large.caller.deliver(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(70_000)}\r\n\r\n`)
  await settle()
  t.same(large.endings, ['431 head-too-large'])
  const many = new RelayBench()
  many.caller.deliver(`GET / HTTP/1.1\r\nHost: a\r\n${'X: y\r\n'.repeat(100)}\r\n`)
  await settle()
  t.same(many.endings, ['431 head-too-large'])
})

t.test('bytes of another protocol are refused as such', async (t) => {
  const bench = new RelayBench()
  bench.caller.deliver(Buffer.from([0x16, 3, 1, 2, 0]))
  await settle()
  t.same(bench.endings, ['400 not-http'])
})
