import { spawn } from 'node:child_process'
import { createServer as createHttp } from 'node:http'
import { createServer as createHttp2 } from 'node:http2'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createServer as createTls } from 'node:tls'
import t, { type Test } from 'tap'
import { askOver } from '#agent/detection/ask.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { freePort } from '#test/support/free-port.ts'
import { lacks } from '#test/support/needs.ts'
import { prepareNginx } from '#test/support/nginx-program.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const ask = askOver({ clock: systemClock })
/** What is said is heard in time also where the machine is crowded. */
const askPatiently = askOver({
  clock: { ...systemClock, after: (ms, run) => systemClock.after(4 * ms, run) },
})

/** Asks a server; afterwards no connection may be left. */
async function found(_: Test, server: Server, asks = askPatiently) {
  const open = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    open.add(socket.on('error', () => {}))
    socket.on('close', () => open.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const finding = await asks({ address: '127.0.0.1', port }, AbortSignal.timeout(60_000))
  await new Promise((resolve) => server.close(resolve))
  await until('nothing is left open', () => open.size === 0)
  return finding
}

t.test('an HTTP/1 service is found, with its keep-alive time', async (t) => {
  const asked: string[] = []
  const server = createHttp((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    response.statusCode = 404
    response.end('no')
  })
  server.keepAliveTimeout = 7000
  t.match(await found(t, server), { speech: 'http/1.1', keepAliveMs: 7000 })
  t.strictSame(asked, ['OPTIONS *'])
})

t.test('nginx is found, which refuses the question', { skip: lacks('nginx') }, async (t) => {
  const ca = await makeTestCa()
  const { chainPem, keyPem } = await ca.issue({ id: 'spiffe://mesh.internal/service/x' })
  const directory = testDirectory(t, { 'cert.pem': chainPem, 'key.pem': keyPem })
  const [port, tlsPort] = [await freePort(), await freePort()]
  const [command, ...args] = prepareNginx({
    directory,
    listen: `127.0.0.1:${port}`,
    server: `listen 127.0.0.1:${tlsPort} ssl; return 200;
      ssl_certificate ${directory}/cert.pem; ssl_certificate_key ${directory}/key.pem;`,
  })
  const nginx = spawn(command, args, { stdio: 'ignore' })
  t.teardown(() => nginx.kill())
  const findingAt = (at: number) =>
    until('nginx answers', () =>
      askPatiently({ address: '127.0.0.1', port: at }, AbortSignal.timeout(60_000)),
    )
  t.strictSame(await findingAt(port), { speech: 'http/1.1' }, 'its `close` is of the refusal')
  t.strictSame(await findingAt(tlsPort), { speech: 'tls' })
})

t.test('a service that speaks first is found', async (t) => {
  const greeter = createServer((socket) => socket.resume().write('220 mail ready\r\n'))
  t.strictSame(await found(t, greeter), { speech: 'server-first' })
})

t.test('HTTP/2 without TLS is found, spoken first or not', async (t) => {
  t.strictSame(await found(t, createHttp2() as unknown as Server), { speech: 'http/2' })
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])
  const strict = createServer((socket) => {
    socket.on('data', (chunk) => {
      if (chunk.toString('latin1').startsWith('PRI * HTTP/2.0')) socket.write(settings)
      else socket.destroy()
    })
  })
  t.strictSame(await found(t, strict), { speech: 'http/2' })
})

t.test('TLS is found, whoever’s certificate it is and whatever it answers to HTTP', async (t) => {
  const ca = await makeTestCa()
  const { chainPem: cert, keyPem: key } = await ca.issue({ id: 'spiffe://mesh.internal/service/x' })
  t.strictSame(await found(t, createTls({ cert, key })), { speech: 'tls' })
  const picky = createTls({
    cert,
    key,
    ca: ca.bundlePem,
    requestCert: true,
    rejectUnauthorized: true,
  })
  t.strictSame(await found(t, picky), { speech: 'tls' })
})

t.test(
  'a service that answers, or hangs up, otherwise is told apart from a silent one',
  async (t) => {
    const redis = createServer((socket) => socket.on('data', () => socket.write('-ERR what?\r\n')))
    t.strictSame(await found(t, redis), { speech: 'tcp' })
    const rude = createServer((socket) => socket.on('data', () => socket.destroy()))
    t.strictSame(await found(t, rude), { speech: 'tcp' })
    const silent = createServer((socket) => socket.resume())
    t.strictSame(await found(t, silent, ask), { speech: 'silent' })
  },
)

t.test('nobody is asked where nobody listens, nor off this host', async (t) => {
  const signal = AbortSignal.timeout(30_000)
  t.equal(await ask({ address: '127.0.0.1', port: 1 }, signal), null)
  t.equal(await ask({ address: '192.0.2.1', port: 80 }, signal), null)
})

t.test('a flood is cut', async (t) => {
  const flood = createServer((socket) => {
    const more = (): void => {
      while (!socket.destroyed && socket.write('HTTP/1.1 200 OK and so on '.repeat(1000)));
    }
    socket.resume().on('drain', more)
    more()
  })
  t.match(await found(t, flood), { speech: 'http/1.1' })
})
