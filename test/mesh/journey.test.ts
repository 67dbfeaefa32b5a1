import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { prepareInstance } from '#cli/demo/instance.ts'
import { ports, type DemoHost } from '#cli/demo/demo-host.ts'
import { call, type CallTarget } from '#test/support/callers.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const mesh = await MeshWorld.raise(t)
const { alpha, beta } = mesh
const upstream = {
  orders: 9001,
  files: 9002,
  echo: 9003,
  greeter: 9004,
  solo: 9005,
  cache: 9006,
}
const host = 'spiffe://mesh.internal/host/alpha'
const orders = 'spiffe://mesh.internal/service/orders'

/** A program the machine may have, which knows nothing of a mesh. */
function serveFiles(at: DemoHost, service: string, port: number, prefer: 'nginx' | 'python3') {
  const { command } = prepareInstance({
    service,
    host: at.name,
    address: at.place.local,
    port,
    directory: at.path('services'),
    prefer,
    fallback: [process.execPath, `${import.meta.dirname}/../../cli/demo/main.ts`, 'serve'],
  })
  at.start(service, command)
  at.dropManifest(service, { port, address: at.place.local })
}

serveFiles(beta, 'orders', 8080, 'nginx')
serveFiles(alpha, 'files', 8081, 'python3')
for (const [at, kind, port] of [
  [beta, 'echo', 8082],
  [alpha, 'greeter', 8083],
  [beta, 'greeter', 8083],
] as const) {
  mesh.serve(at, kind, kind, port)
  // They are found to speak no HTTP.
  at.dropManifest(kind, { port, address: at.place.local })
}
const noRedis = lacks('redis-server')
if (noRedis === '') {
  const at = ['--bind', beta.place.local, '--port', '8084', '--protected-mode', 'no']
  beta.start('cache', ['redis-server', ...at, '--save', '', '--dir', beta.path('services')])
  beta.dropManifest('cache', { port: 8084, address: beta.place.local, protocol: 'tcp' })
}
alpha.dropManifest('web', { upstreams: upstream })
await mesh.sees(alpha, 'orders', ['beta'])
await mesh.sees(alpha, 'files', ['alpha'])
await mesh.sees(alpha, 'echo', ['beta'])
await mesh.sees(alpha, 'greeter', ['alpha', 'beta'])
await mesh.until('alpha listens for its callers', async () => {
  const [worker] = (await alpha.admin.ask('status')).workers
  const open = worker?.listeners.filter(({ problem }) => problem === '').map(({ port }) => port)
  return [...Object.values(upstream), ports.forwardProxy].every((port) => open?.includes(port))
})

const page = '/whoami.json'
const listener = (port: number): CallTarget => ({ host: alpha.place.local, port, path: page })
const proxy = (path: string): CallTarget => ({
  host: alpha.place.local,
  port: ports.forwardProxy,
  path,
})

/** What one series of a host's metrics page says; 0 where it is not there. */
async function metric(at: DemoHost, name: string, labels: Record<string, string>) {
  const target = { host: at.place.address, port: ports.metrics, path: '/metrics' }
  const { body } = await call(target)
  const line = body.split('\n').find((one) => {
    if (!one.startsWith(`${name}{`)) return false
    return Object.entries(labels).every(([key, value]) => one.includes(`${key}="${value}"`))
  })
  return Number(line?.split(' ').at(-1) ?? 0)
}

/** Waits until a series has come to a value: an end is counted after the last byte is out. */
async function counts(
  t: Test,
  at: DemoHost,
  name: string,
  labels: Record<string, string>,
  value: number,
): Promise<void> {
  const what = `${at.name} counts ${value} in ${name}`
  await mesh.until(what, async () => (await metric(at, name, labels)) >= value)
  t.equal(await metric(at, name, labels), value, what)
}

/** Opens a connection, says something, half-closes, and answers all that came. */
async function converse(port: number, words: string): Promise<string> {
  const socket = connect({ host: alpha.place.local, port, allowHalfOpen: true })
  await once(socket, 'connect')
  socket.end(words)
  return text(socket)
}

t.test('both hosts are ready and say so to whoever watches', async (t) => {
  for (const at of mesh.world.hosts) {
    const ready = await call({ host: at.place.address, port: ports.metrics, path: '/readyz' })
    t.match(ready, { status: 200, body: 'ready\n' })
  }
})

t.test('a request crosses hosts through a listener and through the forward proxy', async (t) => {
  for (const target of [listener(upstream.orders), proxy(`http://orders.mesh${page}`)])
    t.match(await call(target), { status: 200, host: 'beta' })
  await told(t, 'both agents recorded both identities', beta, 'inbound', host, orders, true)
  await told(t, 'both agents recorded both identities', alpha, 'outbound', host, orders, true)
})

t.test('a request stays on its host when the service is there, with the same record', async (t) => {
  for (const target of [listener(upstream.files), proxy(`http://files.mesh${page}`)])
    t.match(await call(target), { status: 200, host: 'alpha' })
  const files = 'spiffe://mesh.internal/service/files'
  await told(t, 'alpha recorded it', alpha, 'outbound', host, files, false)
})

t.test('the metrics of both hosts name caller and service, and agree', async (t) => {
  const labels = { source: host, destination: orders }
  const before = await metric(beta, 'mesh_requests_total', { ...labels, direction: 'inbound' })
  for (let i = 0; i < 10; i++) await call(listener(upstream.orders))
  for (const [at, direction] of [
    [alpha, 'outbound'],
    [beta, 'inbound'],
  ] as const) {
    const all = { ...labels, direction }
    const requests = { ...all, status: '200', reason: 'ok' }
    await counts(t, at, 'mesh_requests_total', requests, before + 10)
    await counts(t, at, 'mesh_request_duration_seconds_count', all, before + 10)
    t.ok((await metric(at, 'mesh_request_duration_seconds_sum', all)) > 0)
    t.ok((await metric(at, 'mesh_request_bytes_total', all)) > 0)
    t.ok((await metric(at, 'mesh_response_bytes_total', all)) > 0)
    t.ok((await metric(at, 'mesh_tunnels_open', { direction })) > 0)
  }
})

t.test('raw connections keep their half-close across hosts', async (t) => {
  t.equal(await converse(upstream.echo, 'hello'), 'hellogoodbye from beta')
  const long = 'x'.repeat(3_000_000)
  t.equal(await converse(upstream.echo, long), `${long}goodbye from beta`)
  const labels = { source: host, destination: 'spiffe://mesh.internal/service/echo' }
  for (const at of [alpha, beta])
    await counts(t, at, 'mesh_connections_total', { ...labels, reason: 'ok' }, 2)
})

t.test('services that speak first are heard at once, here and there', async (t) => {
  const greeted = new Set<string>()
  while (greeted.size < 2) {
    const socket = connect({ host: alpha.place.local, port: upstream.greeter })
    const [greeting] = (await once(socket, 'data')) as [Buffer]
    greeted.add(greeting.toString())
    socket.write('quit')
    t.equal(await text(socket), '250 quit\r\n')
  }
  t.same([...greeted].sort(), ['220 alpha at your service\r\n', '220 beta at your service\r\n'])
})

t.test('Redis serves pipelines, large values and subscribers', { skip: noRedis }, async (t) => {
  await mesh.sees(alpha, 'cache', ['beta'])
  const place = ['-h', alpha.place.local, '-p', String(upstream.cache)]
  const run = async (program: string, ...words: string[]): Promise<string> =>
    (await promisify(execFile)(program, [...place, ...words], { maxBuffer: 1 << 26 })).stdout
  t.equal(await run('redis-cli', 'ping'), 'PONG\n')
  const said = await run('redis-benchmark', '-t', 'set,lrange_100', '-n', '4000', '-P', '16', '-q')
  t.match(said, /SET: .* requests per second/)
  t.match(said, /LRANGE_100 .* requests per second/)
  const script = "redis.call('set', 'big', string.rep('x', 20000000))"
  await run('redis-cli', 'eval', script, '0')
  t.equal((await run('redis-cli', 'get', 'big')).length, 20_000_001)

  // A subscriber hears what others say, unasked.
  const socket = connect({ host: alpha.place.local, port: upstream.cache })
  let heard = ''
  socket.on('data', (chunk) => (heard += chunk.toString()))
  socket.write('SUBSCRIBE news\r\n')
  await mesh.until('the subscription stands', () => heard.includes('subscribe'))
  t.equal(await run('redis-cli', 'publish', 'news', 'snow'), '1\n')
  await mesh.until('the news is there', () => heard.endsWith('news\r\n$4\r\nsnow\r\n'))
  socket.destroy()
})

t.test('what cannot be called is refused with a reason', async (t) => {
  const reasons: readonly (readonly [CallTarget, number, string])[] = [
    [listener(upstream.solo), 404, 'unknown-service'],
    [proxy('http://nobody.mesh/'), 404, 'unknown-service'],
    [proxy('http://constructor.mesh/'), 404, 'unknown-service'],
    [proxy('http://example.com/'), 403, 'not-mesh-name'],
    [proxy('/'), 403, 'not-mesh-name'],
  ]
  for (const [target, status, reason] of reasons) {
    const answer = await call(target)
    t.match(answer, { status, headers: { 'x-mesh-reason': reason } }, `${target.path}: ${reason}`)
  }
})

async function told(
  t: Test,
  what: string,
  at: DemoHost,
  direction: string,
  source: string,
  destination: string,
  mtls: boolean,
): Promise<void> {
  const wanted = (): number =>
    at
      .accessLines(1000)
      .filter(
        (line) =>
          line.direction === direction &&
          line.source === source &&
          line.destination === destination &&
          line.mtls === mtls &&
          line.status === 200,
      ).length
  await mesh.until(`${at.name}: ${what}`, () => wanted() >= 2)
  t.pass(`${at.name}: ${what}`)
}
