import { createServer } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net'
import t, { type Test } from 'tap'
import { probe } from '#agent/health/probe.ts'

async function listening(t: Test, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

const check = (kind: 'tcp' | 'http', port: number, address = '127.0.0.1', ms = 5000) =>
  probe({ address, port, health: { kind, path: '/up' } }, AbortSignal.timeout(ms))

t.test('a tcp check passes when the connection opens', async (t) => {
  const server = createTcpServer()
  const port = await listening(t, server)
  t.strictSame(await check('tcp', port), { pass: true, detail: 'connection opened' })
  await new Promise((resolve) => server.close(resolve))
  t.strictSame(await check('tcp', port), { pass: false, detail: 'ECONNREFUSED' })
})

t.test('an http check passes from 200 to 399', async (t) => {
  let status = 200
  const port = await listening(
    t,
    createServer((request, response) => {
      response.statusCode = request.url === '/up' ? status : 500
      response.end()
    }),
  )
  for (const [answer, pass] of [
    [200, true],
    [204, true],
    [302, true],
    [399, true],
    [400, false],
    [404, false],
    [503, false],
  ] as const) {
    status = answer
    t.strictSame(await check('http', port), { pass, detail: `status ${answer}` })
  }
})

t.test('no check leaves this host', async (t) => {
  for (const kind of ['tcp', 'http'] as const) {
    t.match(await check(kind, 80, '192.0.2.1'), {
      pass: false,
      detail: /not an address of this host/,
    })
  }
})

t.test('a check is over when its signal aborts', async (t) => {
  const port = await listening(t, createTcpServer())
  t.match(await check('http', port, '127.0.0.1', 30), { pass: false, detail: /timeout/ })
  const aborted = AbortSignal.abort(new Error('enough'))
  const target = { address: '127.0.0.1', port, health: { kind: 'tcp', path: '/' } } as const
  t.strictSame(await probe(target, aborted), { pass: false, detail: 'enough' })
})
