import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { promisify } from 'node:util'
import t from 'tap'
import { WebSocket } from 'ws'
import { ports } from '#cli/demo/demo-host.ts'
import { call } from '#test/support/callers.ts'
import { freePort } from '#test/support/free-port.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'
import { prepareNginx } from '#test/support/nginx-program.ts'
import { preparePostgres } from '#test/support/postgres-program.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const mesh = await MeshWorld.raise(t)
const { alpha, beta } = mesh
const { local } = alpha.place
const upstream = { pages: 9001, echo: 9002, sockets: 9003, database: 9004 }
const at = (name: keyof typeof upstream): string => `http://${local}:${upstream[name]}`
const big = 8 << 20
const hello = 'hello from nginx\n'

beta.start(
  'pages',
  lacks('nginx') === ''
    ? prepareNginx({
        directory: beta.path('services'),
        listen: `${beta.place.local}:8080`,
        files: { 'index.html': hello, big: Buffer.alloc(big, 'x') },
        server: `
          location /zip { gzip on; gzip_min_length 1; gzip_types *; alias ${beta.path('services/html')}; }
          location /small { client_max_body_size 1k; return 200 "small"; }
          location /once { keepalive_timeout 0; return 200 "once"; }`,
      })
    : [process.execPath, '-e', 'setInterval(() => {}, 1e6)'],
)
mesh.serve(beta, 'http', 'echo', 8081)
mesh.serve(beta, 'websocket', 'sockets', 8082)
for (const [name, port] of [
  ['pages', 8080],
  ['echo', 8081],
  ['sockets', 8082],
] as const) {
  beta.dropManifest(name, { port, address: beta.place.local })
}
alpha.dropManifest('web', { upstreams: upstream })
await mesh.sees(alpha, 'echo', ['beta'])
await mesh.sees(alpha, 'sockets', ['beta'])
if (lacks('nginx') === '') await mesh.sees(alpha, 'pages', ['beta'])
await mesh.until('alpha listens for its callers', async () => {
  const [worker] = (await alpha.admin.ask('status')).workers
  return worker?.listeners.filter(({ problem }) => problem === '').length === 5
})

async function run(program: string, ...words: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, words, {
    encoding: 'latin1',
    maxBuffer: 1 << 26,
  })
  return stdout
}
const curl = (...words: readonly string[]): Promise<string> =>
  run('curl', '-sS', '--max-time', '60', ...words)

t.test('curl reads and writes through two agents', { skip: lacks('nginx', 'curl') }, async (t) => {
  const page = `${at('pages')}/`
  t.equal(await curl(page), hello)
  t.equal(await curl('--http1.0', page), hello)
  t.equal(await curl('--http2', page), hello, 'h2c is not taken up')
  t.match(await curl('-I', `${page}big`), new RegExp(`content-length: ${big}\\r\\n`, 'i'))
  t.equal((await curl(`${page}big`)).length, big)
  t.equal((await curl('--compressed', `${page}zip/big`)).length, big)
  t.equal(await curl('-r', '6-9', page), 'from')
  t.equal(await curl(`${page}once`, `${page}once`), 'onceonce')
  t.equal(await curl(...Array.from({ length: 20 }, () => page)), hello.repeat(20))
  t.match(await curl('-i', '--data-binary', 'x'.repeat(60_000), `${page}small`), /^HTTP\/1\.1 413/m)
  const post = ['--data-binary', 'x'.repeat(60_000), '-H', 'Expect: 100-continue', at('echo')]
  t.match(await curl(...post), /"method":"POST","bytes":60000/)
  const chunks = ['-T', '-', '-H', 'Transfer-Encoding: chunked', '-X', 'POST', at('echo')]
  const sending = promisify(execFile)('curl', ['-sS', '--max-time', '60', ...chunks])
  sending.child.stdin?.end('y'.repeat(70_000))
  t.match((await sending).stdout, /"bytes":70000/)
  const proxy = `http://${local}:${ports.forwardProxy}`
  t.equal(await curl('-x', proxy, 'http://pages.mesh/'), hello)
})

const pythonClient = `
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=60)
for i in range(5):
    c.request('GET', '/%d' % i); r = c.getresponse(); assert r.status == 200 and b'"host":"beta"' in r.read()
body = bytes(range(256)) * 1000
c.request('POST', '/length', body); r = c.getresponse(); assert b'"bytes":256000' in r.read()
c.request('POST', '/chunks', iter([body[:1000], body[1000:]]), encode_chunked=True, headers={'Transfer-Encoding': 'chunked'})
r = c.getresponse(); assert b'"bytes":256000' in r.read()
print('done')
`
t.test('Python’s http.client keeps its connection', { skip: lacks('python3') }, async (t) => {
  t.equal(await run('python3', '-c', pythonClient, local, String(upstream.echo)), 'done\n')
})

const requestsClient = `
import requests, sys
s = requests.Session()
s.trust_env = False
for i in range(5):
    r = s.get(sys.argv[1], timeout=60); assert r.json()['host'] == 'beta'
r = s.post(sys.argv[1], data=b'z' * 100000, timeout=60); assert r.json()['bytes'] == 100000
r = s.post(sys.argv[1], data=(b'z' * 1000 for _ in range(50)), timeout=60); assert r.json()['bytes'] == 50000
r = s.get('http://echo.mesh/', proxies={'http': sys.argv[2]}, timeout=60); assert r.json()['host'] == 'beta'
r = s.get('http://nowhere.mesh/', proxies={'http': sys.argv[2]}, timeout=60)
assert (r.status_code, r.headers['x-mesh-reason']) == (404, 'unknown-service')
print('done')
`
t.test('Python’s requests works', { skip: lacks('python3-requests') }, async (t) => {
  const proxy = `http://${local}:${ports.forwardProxy}`
  t.equal(await run('python3', '-c', requestsClient, at('echo'), proxy), 'done\n')
})

t.test('nginx calls through the mesh, and is called', { skip: lacks('nginx') }, async (t) => {
  const listen = `${local}:8090`
  const command = prepareNginx({
    directory: alpha.path('services'),
    listen,
    http: `upstream kept { server ${local}:${upstream.pages}; keepalive 8; }`,
    server: `
      location /kept/ { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://kept/; }
      location /plain/ { proxy_pass http://${local}:${upstream.pages}/; }`,
  })
  const nginx = alpha.start('caller', command)
  const ask = (path: string): ReturnType<typeof call> => call({ host: local, port: 8090, path })
  await mesh.until('the caller is there', async () => (await ask('/kept/')).status === 200)
  for (const kind of ['kept', 'plain']) {
    const answers = await Promise.all(Array.from({ length: 30 }, () => ask(`/${kind}/`)))
    t.same([...new Set(answers.map(({ status, body }) => `${status} ${body}`))], [`200 ${hello}`])
    t.equal((await ask(`/${kind}/big`)).body.length, big)
  }
  await nginx.stop(1000)
})

t.test('ab finds no failed request', { skip: lacks('nginx', 'ab') }, async (t) => {
  for (const kept of [['-k'], []]) {
    const told = await run('ab', '-q', ...kept, '-n', '1000', '-c', '16', `${at('pages')}/`)
    t.match(told, /Complete requests: +1000\n/)
    t.match(told, /Failed requests: +0\n/)
    t.notMatch(told, /Non-2xx/)
  }
})

t.test('wrk finds no failed request', { skip: lacks('nginx', 'wrk') }, async (t) => {
  const told = await run('wrk', '-t1', '-c16', '-d1s', '--timeout', '30s', `${at('pages')}/`)
  t.match(told, /[1-9][0-9]* requests in/)
  t.notMatch(told, /Socket errors|Non-2xx/)
})

const halfClosingClient = `
import socket, struct, sys
def message(kind, body): return kind + struct.pack('!I', len(body) + 4) + body
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
s.sendall(message(b'', struct.pack('!I', 196608) + b'user\\0postgres\\0\\0'))
s.sendall(message(b'Q', b"select repeat('x', 3000000) from pg_sleep(0.2)\\0"))
s.shutdown(socket.SHUT_WR)
heard = b''
while piece := s.recv(65536): heard += piece
assert heard.count(b'x' * 3000000) == 1 and b'SELECT 1' in heard[-40:], heard[-200:]
print('done')
`
t.test(
  'PostgreSQL answers in full a client that has said all it will say',
  { skip: lacks('root', 'postgres', 'setpriv', 'python3') },
  async (t) => {
    const port = await freePort()
    const trusts = '127.0.0.6'
    const server = beta.start('database', [...preparePostgres(t, { port, trusts })])
    beta.dropManifest('database', { port, address: '127.0.0.1' })
    await mesh.sees(alpha, 'database', ['beta'])
    for (let i = 0; i < 5; i++) {
      const words = ['-c', halfClosingClient, local, String(upstream.database)]
      t.equal(await run('python3', ...words), 'done\n')
    }
    await server.stop(10_000)
  },
)

/** A WebSocket of the library `ws`, open. */
async function open(path = '/'): Promise<WebSocket> {
  const socket = new WebSocket(`ws://${local}:${upstream.sockets}${path}`)
  await once(socket, 'open')
  return socket
}

/** Sends a message and answers its echo. */
async function echo(socket: WebSocket, message: string | Buffer): Promise<Buffer> {
  const answer = once(socket, 'message')
  socket.send(message)
  return ((await answer) as [Buffer])[0]
}

t.test('a WebSocket library talks, large and small, and says goodbye', async (t) => {
  const socket = await open()
  t.equal(String(await echo(socket, 'hello')), 'hello')
  const large = Buffer.alloc(4 << 20, 'w')
  t.ok((await echo(socket, large)).equals(large))
  const pong = once(socket, 'pong')
  socket.ping('are you there')
  t.equal(String((await pong)[0]), 'are you there')
  const closed = once(socket, 'close')
  socket.close(4001, 'enough')
  const [code, reason] = (await closed) as [number, Buffer]
  t.same([code, String(reason)], [4001, 'enough'])
})

t.test('idle WebSockets live on beside busy connections, and nothing fails', async (t) => {
  const idle = await Promise.all(Array.from({ length: 100 }, () => open()))
  const busy = await Promise.all(Array.from({ length: 16 }, () => open()))
  const orders = { host: local, port: upstream.echo }
  await Promise.all([
    ...busy.map(async (socket, i) => {
      for (let n = 0; n < 30; n++) t.equal(String(await echo(socket, `${i} ${n}`)), `${i} ${n}`)
    }),
    ...Array.from({ length: 16 }, async () => {
      for (let n = 0; n < 20; n++) t.equal((await call(orders)).status, 200)
    }),
  ])
  const answers = await Promise.all(idle.map((socket, i) => echo(socket, `idle ${i}`)))
  t.same(
    answers.map(String),
    idle.map((_, i) => `idle ${i}`),
  )
  for (const socket of [...idle, ...busy]) socket.terminate()
})
