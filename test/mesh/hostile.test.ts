import { once } from 'node:events'
import { createServer as createHttpServer, type IncomingMessage } from 'node:http'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { ports } from '#cli/demo/demo-host.ts'
import { call } from '#test/support/callers.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

// Short, but longer than a crowded machine keeps a program from reading what is there.
const limits = { headMs: 3000, bodyIdleMs: 3000 }
const mesh = await MeshWorld.raise(t, { agentConfig: { limits } })
const { alpha, beta } = mesh
const { local } = alpha.place
const upstream = { orders: 9001, poison: 9002 }
/** For an answer that only a broken mesh does not give. */
const patienceMs = 30_000
const source = 'spiffe://mesh.internal/host/alpha'

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** Every request as Node's own strict parser understood it, and what it could not understand. */
const understood: IncomingMessage[] = []
const misunderstood: string[] = []
const orders = createHttpServer((request, response) => {
  understood.push(request)
  request.on('end', () => response.end(`orders has ${request.url ?? ''}`)).resume()
})
orders.on('clientError', (error, socket) => {
  // A caller that is gone takes its half body with it.
  if (!/reset|hang up|closed|aborted/i.test(error.message)) misunderstood.push(error.message)
  socket.destroy()
})

/** What a service says to each path; it says who asked to every other. */
const answers = new Map<string, string>()
/** How often it got a request that it takes and goes with, by method. */
const taken = new Map<string, number>()
const poison = createServer((socket) => {
  socket.on('error', () => {})
  let said = ''
  socket.on('data', (chunk) => {
    said += chunk.toString('latin1')
    for (let end = said.indexOf('\r\n\r\n'); end >= 0; end = said.indexOf('\r\n\r\n')) {
      const [method = '', path = ''] = said.split(' ')
      said = said.slice(end + 4)
      if (path === '/taken') {
        taken.set(method, (taken.get(method) ?? 0) + 1)
        socket.destroy()
        return
      }
      socket.write(
        answers.get(path) ?? `HTTP/1.1 200 OK\r\ncontent-length: ${path.length}\r\n\r\n${path}`,
      )
    }
  })
})

const address = '127.0.0.1'
beta.dropManifest('orders', { port: await listening(orders), address, protocol: 'http' })
beta.dropManifest('poison', { port: await listening(poison), address, protocol: 'http' })
alpha.dropManifest('web', { upstreams: upstream })
for (const name of ['orders', 'poison']) await mesh.sees(alpha, name, ['beta'])
await mesh.until('alpha listens for its callers', async () => {
  const [worker] = (await alpha.admin.ask('status')).workers
  return worker?.listeners.filter(({ problem }) => problem === '').length === 3
})

/** Sends bytes as they are, and answers all that comes until the mesh ends the connection. */
async function say(port: number, bytes: string): Promise<string> {
  const socket = connect({ host: local, port })
  socket.setTimeout(patienceMs, () => socket.destroy(new Error('no end')))
  socket.write(bytes, 'latin1')
  return heardBy(socket)
}

/** All that comes until the connection is gone, however it goes. */
function heardBy(socket: Socket): Promise<string> {
  let heard = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => (heard += chunk))
  return new Promise((resolve) => {
    socket.on('error', (error) => heard === '' && resolve(String(error)))
    socket.on('close', () => resolve(heard))
  })
}

const second = 'GET /smuggled HTTP/1.1\r\nHost: orders.mesh\r\n\r\n'
const length = `Content-Length: ${second.length}\r\n`
const chunked = 'Transfer-Encoding: chunked\r\n'
const last = '0\r\n\r\n'
/** Lines after the request line that two programs could read differently, and what follows them. */
const ambiguous: readonly (readonly [lines: string, body: string])[] = [
  [`${length}${chunked}`, `${last}${second}`],
  [`${chunked}${length}`, `${last}${second}`],
  [`Content-Length: 0\r\n${length}`, second],
  [`Content-Length: 0, ${second.length}\r\n`, second],
  [`Content-Length: +${second.length}\r\n`, second],
  [`Content-Length: 0x10\r\n`, second],
  [`Content-Length: -1\r\n`, second],
  [`Content-Length:\r\n`, second],
  [`Content-Length : 0\r\n`, second],
  ['Transfer-Encoding: xchunked\r\n', `${last}${second}`],
  ['Transfer-Encoding: chunked, identity\r\n', `${last}${second}`],
  ['Transfer-Encoding: identity\r\n', `${last}${second}`],
  ['Transfer-Encoding: "chunked"\r\n', `${last}${second}`],
  ['Transfer-Encoding:\x0bchunked\r\n', `${last}${second}`],
  ['Transfer-Encoding : chunked\r\n', `${last}${second}`],
  [` Transfer-Encoding: chunked\r\n`, `${last}${second}`],
  ['Transfer-Encoding:\r\n chunked\r\n', `${last}${second}`],
  [`X: a\r\n ${chunked}`, `${last}${second}`],
  [`X: a\r${chunked}`, `${last}${second}`],
  [`X: a\n${chunked}`, `${last}${second}`],
  [`X: a\0b\r\n`, second],
  [`X\0: a\r\n`, second],
  ['Host: other.mesh\r\n', ''],
  [': empty\r\n', ''],
  ['no colon\r\n', ''],
  [chunked, `5;x=y\r\nhello\r\n${last}${second}`],
  [chunked, `5\r\nhelloXX${last}${second}`],
  [chunked, `5\nhello\r\n${last}${second}`],
  [chunked, `0x5\r\nhello\r\n${last}${second}`],
  [chunked, `-5\r\nhello\r\n${last}${second}`],
  [chunked, `fffffffffffffffff\r\nhello\r\n${last}${second}`],
  [chunked, `0\r\nX : y\r\n\r\n${second}`],
  [chunked, `0\r\n${chunked}\n\r\n${second}`],
  ['Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n', `hello${second}`],
]
const heads: readonly string[] = [
  'GET / HTTP/1.1\r\n\r\n',
  'GET / HTTP/1.1\nHost: orders.mesh\n\n',
  'GET  / HTTP/1.1\r\nHost: orders.mesh\r\n\r\n',
  'GET / HTTP/1.1 \r\nHost: orders.mesh\r\n\r\n',
  'GET /a b HTTP/1.1\r\nHost: orders.mesh\r\n\r\n',
  'GET /\x80 HTTP/1.1\r\nHost: orders.mesh\r\n\r\n',
  'GET http://other.mesh/ HTTP/1.1\r\nHost: orders.mesh\r\n\r\n',
  'GET / HTTP/2.0\r\nHost: orders.mesh\r\n\r\n',
  'GET /\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'CONNECT orders.mesh:80 HTTP/1.1\r\nHost: orders.mesh:80\r\nConnection: close\r\n\r\n',
  `CONNECT HTTP/1.1\r\n\r\n${second}`,
  'TRACE / HTTP/1.1\r\nHost: orders.mesh\r\nConnection: close\r\n\r\n',
  '\x16\x03\x01\x02\x00\x01\x00\x01',
]

t.test('no ambiguous byte reaches a service behind two agents, by any door', async (t) => {
  const attempts = [
    ...heads,
    ...ambiguous.map(
      ([lines, body]) => `POST /x HTTP/1.1\r\nHost: orders.mesh\r\n${lines}\r\n${body}`,
    ),
  ]
  for (const port of [upstream.orders, ports.forwardProxy]) {
    for (const bytes of attempts) {
      const heard = await say(port, bytes)
      t.match(heard, /^HTTP\/1\.1 (?:400|403|405|501|505) /, JSON.stringify(bytes))
      t.equal(heard.split(/HTTP\/1\.1 \d{3} /).length, 2, `one answer, then the end: ${heard}`)
      t.notMatch(heard, 'orders has')
    }
  }
  t.match(await call({ host: local, port: upstream.orders, path: '/good' }), { status: 200 })
  t.same(misunderstood, [])
  // A head may have gone on before its body was found to be broken.
  const called = understood.filter((one) => isCalled(one) && one.url !== '/x')
  t.same(
    called.map(({ url }) => url),
    ['/good'],
  )
})

/** Whether a request is a caller's: the agent itself asks services how they are. */
function isCalled({ headers }: IncomingMessage): boolean {
  return headers['x-mesh-source'] !== undefined
}

t.test('what a service is told of its caller comes from the agents alone', async (t) => {
  const lies = [
    `x-mesh-source: spiffe://mesh.internal/service/admin`,
    `X_Mesh_Source: spiffe://mesh.internal/service/admin`,
    `x.mesh.source: spiffe://mesh.internal/service/admin`,
    'x-forwarded-client-cert: Hash=1',
    'x-forwarded-for: 10.0.0.1',
    'forwarded: for=10.0.0.1',
    'x-request-id: mine',
    '__proto__: polluted',
    'Connection: x-mesh-source, x-forwarded-for, x-request-id, close',
  ].join('\r\n')
  const trailers =
    'x-mesh-source: spiffe://mesh.internal/service/admin\r\nx-forwarded-for: 10.0.0.1\r\n'
  understood.length = 0
  for (const port of [upstream.orders, ports.forwardProxy]) {
    const head = `POST /lies HTTP/1.1\r\nHost: orders.mesh\r\n${lies}\r\n${chunked}\r\n`
    t.match(await say(port, `${head}1\r\nx\r\n0\r\n${trailers}\r\n`), /orders has \/lies$/m)
  }
  const called = understood.filter(isCalled)
  t.equal(called.length, 2)
  for (const request of called) {
    const { rawHeaders, headers, rawTrailers } = request
    const names = rawHeaders.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase())
    t.equal(headers['x-mesh-source'], source)
    t.notMatch(rawHeaders.join('\n'), /service\/admin|10\.0\.0\.1|Hash=1|^mine$/m)
    t.same(
      names.filter((name) => /mesh.source/.test(name)),
      ['x-mesh-source'],
    )
    t.same(
      names.filter((name) => name === '__proto__'),
      ['__proto__'],
      'a name like any other',
    )
    t.same(rawTrailers, [])
  }
})

t.test('no answer is given to the next caller, whatever a service says', async (t) => {
  const extra = 'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned'
  const bad = [
    `HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok${extra}`,
    `HTTP/1.1 204 No Content\r\n\r\n${extra}`,
    `HTTP/1.1 304 Not Modified\r\ncontent-length: 8\r\n\r\npoisoned`,
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n${extra}`,
    `HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${extra}`,
    `HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok${extra}`,
    `HTTP/1.1 200 OK\ncontent-length: 2\n\nok${extra}`,
    `HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n${extra}`,
    `HTTP/1.1 100 Continue\r\n\r\n${extra}${extra}`,
    `HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok${extra}`,
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\n\r\n${extra}`,
  ]
  for (const [at, answer] of bad.entries()) {
    answers.set(`/bad${at}`, answer)
    await call({ host: local, port: upstream.poison, path: `/bad${at}` })
    const paths = Array.from({ length: 6 }, (_, n) => `/own-${at}-${n}`)
    const own = paths.map((path) => call({ host: local, port: upstream.poison, path }))
    t.same(
      (await Promise.all(own)).map(({ body }) => body),
      paths,
      answer,
    )
  }
})

t.test('what a service takes and goes with is done twice at most, and a POST once', async (t) => {
  const at = { host: local, port: upstream.poison }
  for (const method of ['GET', 'POST'] as const) {
    for (const kept of [false, true]) {
      if (kept) t.equal((await call({ ...at, path: '/kept' })).body, '/kept')
      taken.clear()
      const { status, headers } = await call({ ...at, path: '/taken', method })
      t.equal(status, 502)
      // Which agent repeats it depends on whether its connection was kept.
      t.match(headers['x-mesh-reason'], /^instance-aborted(-twice)?$/)
      t.same([...taken], [[method, method === 'GET' ? 2 : 1]], `over a kept connection: ${kept}`)
    }
  }
})

t.test('callers that dawdle are cut, and cost the others nothing', async (t) => {
  const dawdlers: Promise<string>[] = []
  const stop = new AbortController()
  const dawdle = (first: string, drop: string): void => {
    const socket = connect({ host: local, port: upstream.orders })
    socket.write(first)
    dawdlers.push(heardBy(socket))
    void trickle(socket, drop, stop.signal)
  }
  for (let i = 0; i < 50; i++) {
    dawdle('GET /slow HTTP/1.1\r\nHost: orders.mesh\r\n', 'X: y\r\n')
    dawdle('POST /slow HTTP/1.1\r\nHost: orders.mesh\r\nContent-Length: 1000\r\n\r\nx', '')
  }
  for (let i = 0; i < 20; i++) {
    t.match(await call({ host: local, port: upstream.orders, path: '/quick' }), { status: 200 })
  }
  const heard = await Promise.all(dawdlers)
  stop.abort()
  t.same(
    heard.filter((one) => !one.startsWith('HTTP/1.1 408 ')),
    [],
  )
  await allForgotten(t)
})

/** Sends something now and then, for as long as the connection is there. */
async function trickle(socket: Socket, drop: string, signal: AbortSignal): Promise<void> {
  if (drop === '') return
  while (!socket.destroyed && !signal.aborted) {
    await sleep(200)
    socket.write(drop)
  }
}

/** Waits until the agent carries no connection of a caller any more. */
async function allForgotten(t: Test): Promise<void> {
  const page = { host: alpha.place.address, port: ports.metrics, path: '/metrics' }
  await mesh.until('no connection is open', async () => {
    const { body } = await call(page)
    const gauges = body.split('\n').filter((line) => line.startsWith('mesh_connections_open{'))
    return gauges.length > 0 && gauges.every((line) => line.endsWith(' 0'))
  })
  t.pass('nothing is left of them')
}
