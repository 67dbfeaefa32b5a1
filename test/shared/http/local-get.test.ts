import { createServer, type RequestListener } from 'node:http'
import {
  createServer as createTcpServer,
  type AddressInfo,
  type Server,
  type Socket,
} from 'node:net'
import t, { type Test } from 'tap'
import { getLocal } from '#shared/http/local-get.ts'

async function listening(t: Test, server: Server, address = '127.0.0.1'): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, address, resolve))
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

const serving = (t: Test, listener: RequestListener): Promise<number> =>
  listening(t, createServer(listener))

/** A server that writes `bytes` to whoever connects. */
const saying = (t: Test, bytes: string): Promise<number> =>
  listening(
    t,
    createTcpServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.write(bytes))
    }),
  )

const asking = (port: number, settings: { address?: string; path?: string; ms?: number } = {}) =>
  getLocal({
    address: settings.address ?? '127.0.0.1',
    port,
    path: settings.path ?? '/up?deep=1',
    signal: AbortSignal.timeout(settings.ms ?? 60_000),
  })

t.test('getLocal asks with a plain GET on a connection of its own', async (t) => {
  const seen: unknown[] = []
  const sockets = new Set<Socket>()
  const port = await serving(t, (request, response) => {
    seen.push([request.method, request.url, request.headers.host, request.headers.connection])
    sockets.add(request.socket)
    response.end('fine')
  })
  t.strictSame(await asking(port), { kind: 'answered', status: 200 })
  t.strictSame(await asking(port), { kind: 'answered', status: 200 })
  t.strictSame(seen[0], ['GET', '/up?deep=1', `127.0.0.1:${port}`, 'close'])
  t.equal(sockets.size, 2)
})

t.test('a redirect is an answer and is not followed', async (t) => {
  let asked = 0
  const target = await serving(t, (_, response) => {
    asked += 1
    response.end()
  })
  const port = await serving(t, (_, response) => {
    response.writeHead(302, { location: `http://127.0.0.1:${target}/` }).end()
  })
  t.strictSame(await asking(port), { kind: 'answered', status: 302 })
  t.equal(asked, 0)
})

t.test('nothing off this machine is dialled, nor any name', async (t) => {
  for (const address of ['192.0.2.1', 'localhost', '169.254.169.254', '']) {
    t.match(await asking(80, { address }), {
      kind: 'failed',
      problem: /not an address of this host/,
    })
  }
})

t.test('no answer, no listener and no HTTP are failures in words', async (t) => {
  const silent = await listening(
    t,
    createTcpServer(() => {}),
  )
  t.match(await asking(silent, { ms: 50 }), { kind: 'failed', problem: /timeout/ })
  const closed = await new Promise<number>((resolve) => {
    const server = createTcpServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
  t.match(await asking(closed), { kind: 'failed', problem: /ECONNREFUSED/ })
  t.match(await asking(await saying(t, 'SSH-2.0-x\r\n')), { kind: 'failed' })
  const huge = `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`
  t.match(await asking(await saying(t, huge)), { kind: 'failed', problem: /[Hh]eader/ })
})

t.test('an endless or stalled body does not outlast its bounds', async (t) => {
  const endless = await serving(t, (_, response) => {
    const more = (): void => {
      while (response.write('x'.repeat(16 * 1024))) {
        if (response.destroyed) return
      }
    }
    response.on('drain', more)
    response.on('error', () => {})
    more()
  })
  t.strictSame(await asking(endless), { kind: 'answered', status: 200 })
  const stalled = await saying(t, 'HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n')
  t.strictSame(await asking(stalled, { ms: 1000 }), { kind: 'answered', status: 204 })
})

t.test('IPv6 addresses are asked too', async (t) => {
  const server = createServer((_, response) => void response.end())
  const port = await listening(t, server, '::1').catch(() => null)
  if (port === null) return t.comment('no IPv6 on this machine')
  t.strictSame(await asking(port, { address: '::1' }), { kind: 'answered', status: 200 })
})
