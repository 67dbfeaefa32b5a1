import { createServer } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net'
import t, { type Test } from 'tap'
import { probe, type ProbeTarget } from '#agent/health/probe.ts'
import { grpc, loadProto } from '#shared/rpc/grpc.ts'

async function listening(t: Test, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

const check = (kind: 'tcp' | 'http', port: number, address = '127.0.0.1', ms = 60_000) =>
  probe(
    { address, port, check: kind === 'tcp' ? { kind } : { kind, path: '/up' } },
    AbortSignal.timeout(ms),
  )

t.test('a tcp check passes when the connection opens', async (t) => {
  const server = createTcpServer()
  const port = await listening(t, server)
  t.strictSame(await check('tcp', port), { outcome: 'pass', detail: 'connection opened' })
  await new Promise((resolve) => server.close(resolve))
  const detail = `nothing listens at 127.0.0.1:${port} (ECONNREFUSED)`
  t.strictSame(await check('tcp', port), { outcome: 'fail', detail })
  t.strictSame(await check('http', port), { outcome: 'fail', detail })
})

t.test('an http check passes from 200 to 399, and warns at 429', async (t) => {
  let status = 200
  const port = await listening(
    t,
    createServer((request, response) => {
      response.statusCode = request.url === '/up' ? status : 500
      response.end()
    }),
  )
  for (const [answer, outcome] of [
    [200, 'pass'],
    [204, 'pass'],
    [302, 'pass'],
    [399, 'pass'],
    [400, 'fail'],
    [404, 'fail'],
    [429, 'warn'],
    [503, 'fail'],
  ] as const) {
    status = answer
    t.strictSame(await check('http', port), { outcome, detail: `status ${answer}` })
  }
})

t.test('no check leaves this host', async (t) => {
  for (const check of [
    { kind: 'tcp' },
    { kind: 'http', path: '/' },
    { kind: 'grpc', grpcService: '' },
  ] as const) {
    const target = { address: '192.0.2.1', port: 80, check }
    t.match(await probe(target, AbortSignal.timeout(60_000)), {
      outcome: 'fail',
      detail: /not an address of this host/,
    })
  }
})

t.test('a check is over when its signal aborts', async (t) => {
  const port = await listening(t, createTcpServer())
  t.match(await check('http', port, '127.0.0.1', 30), { outcome: 'fail', detail: /timeout/ })
  const aborted = AbortSignal.abort(new Error('enough'))
  const target = { address: '127.0.0.1', port, check: { kind: 'tcp' } } as const
  t.strictSame(await probe(target, aborted), { outcome: 'fail', detail: 'enough' })
})

t.test('a grpc check asks grpc.health.v1 and passes while it says SERVING', async (t) => {
  const asked: string[] = []
  let status = 'SERVING'
  const { 'grpc.health.v1.Health': Health } = loadProto(
    new URL('../../support/health.proto', import.meta.url),
  )
  const server = new grpc.Server()
  server.addService(Health as grpc.ServiceDefinition, {
    Check: (
      call: grpc.ServerUnaryCall<{ service: string }, unknown>,
      callback: grpc.sendUnaryData<unknown>,
    ) => {
      asked.push(call.request.service)
      if (status !== 'none') callback(null, { status })
      else callback({ code: grpc.status.NOT_FOUND, details: 'unknown service' })
    },
  })
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    )
  })
  t.teardown(() => server.forceShutdown())
  const ask = (grpcService: string, ms = 60_000) =>
    probe(
      { address: '127.0.0.1', port, check: { kind: 'grpc', grpcService } },
      AbortSignal.timeout(ms),
    )
  t.strictSame(await ask(''), { outcome: 'pass', detail: 'SERVING' })
  t.strictSame(await ask('x'.repeat(200)), { outcome: 'pass', detail: 'SERVING' })
  status = 'NOT_SERVING'
  t.strictSame(await ask('shop.Orders'), { outcome: 'fail', detail: 'NOT_SERVING' })
  status = 'UNKNOWN'
  t.strictSame(await ask('shop.Orders'), { outcome: 'fail', detail: 'UNKNOWN' })
  status = 'none'
  t.match(await ask('shop.Orders'), { outcome: 'fail', detail: /unknown service/ })
  t.strictSame(asked, ['', 'x'.repeat(200), 'shop.Orders', 'shop.Orders', 'shop.Orders'])
  server.forceShutdown()
  t.match(await ask(''), { outcome: 'fail', detail: /ECONNREFUSED/ })
})

t.test('a grpc check leaves no connection at a server that says nothing', async (t) => {
  const closed = Promise.withResolvers<void>()
  const server = createTcpServer((socket) => {
    socket.resume().on('error', () => {})
    socket.on('close', () => closed.resolve())
  })
  const check = { kind: 'grpc', grpcService: '' } as const
  const target: ProbeTarget = { address: '127.0.0.1', port: await listening(t, server), check }
  t.match(await probe(target, AbortSignal.timeout(50)), { outcome: 'fail', detail: /timeout/ })
  await closed.promise
})

t.test('a grpc check is not taken in by something else', async (t) => {
  const port = await listening(
    t,
    createServer((_, response) => response.end('SERVING')),
  )
  const check = { kind: 'grpc', grpcService: '' } as const
  t.match(await probe({ address: '127.0.0.1', port, check }, AbortSignal.timeout(60_000)), {
    outcome: 'fail',
  })
})
