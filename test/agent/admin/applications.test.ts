import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import type { CommandAnswer } from '#agent/admin/admin-commands.ts'
import { Applications } from '#agent/admin/applications.ts'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import type { ServiceReport } from '#shared/model/admin-services.ts'
import { shortDir } from '#test/support/short-dir.ts'
import { silentLogger as logger } from '#test/support/silent-logger.ts'
import { until } from '#test/support/until.ts'

const orders: ServiceReport = {
  name: 'orders',
  protocol: 'http',
  addresses: [],
  ports: [],
  instances: [{ host: 'beta', id: '1', port: 8080, weight: 100, local: false }],
}

async function api(t: Test, limits: { readonly most?: number; readonly mostOfOne?: number } = {}) {
  const world: { services: readonly ServiceReport[] } = { services: [orders] }
  const brought: unknown[] = []
  const socketPath = `${shortDir(t)}/a.sock`
  const server = new Applications(
    {
      clock,
      logger,
      services: () => world.services,
      host: () => ({ host: 'alpha', zone: 'z', ready: true }),
      bringHealth: (input): CommandAnswer => {
        brought.push(input)
        return { kind: 'done', value: { service: 'web', check: 'push' } }
      },
    },
    { socketPath, address: '127.0.0.1', port: 0, ...limits },
  )
  await server.start()
  t.teardown(() => server.stop())
  /** A connection as a worker hands it on. */
  const handed = (introduction: string): Socket => {
    const socket = connect(socketPath)
    socket.on('error', () => {})
    socket.write(introduction)
    return socket
  }
  const open = (
    from: string | null,
    method: string,
    path: string,
    more: { readonly body?: string; readonly host?: string } = {},
  ): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const { body, host = 'agent.mesh' } = more
      const where =
        from === null
          ? { host: '127.0.0.1', port: server.port, agent: false as const }
          : { createConnection: () => handed(`${from}\n`) }
      const sent = request({ ...where, method, path, headers: { host } }, resolve)
      sent.on('error', reject)
      sent.end(body)
    })
  const ask = async (...words: Parameters<typeof open>) => {
    const response = await open(...words)
    const answer: unknown = JSON.parse(await text(response))
    return { status: response.statusCode, answer }
  }
  return { ask, open, handed, world, brought, server }
}

const web = '{"service":"web"}'

t.test('a service is told of itself and of others', async (t) => {
  const { ask } = await api(t)
  t.match(await ask(web, 'GET', '/v1/self'), { answer: { host: 'alpha', service: 'web' } })
  t.match(await ask('{"service":null}', 'GET', '/v1/self'), { answer: { service: null } })
  t.match(await ask(null, 'GET', '/v1/self'), { answer: { service: null } })
  t.strictSame(await ask(web, 'GET', '/v1/services'), { status: 200, answer: [orders] })
  t.strictSame(await ask(web, 'GET', '/v1/services/orders'), { status: 200, answer: orders })
  t.match(await ask(web, 'GET', '/v1/services/none'), { status: 404 })
})

t.test('a service brings its own health, and nobody another one’s', async (t) => {
  const { ask, brought } = await api(t)
  const put = (from: string | null, said: unknown) =>
    ask(from, 'PUT', '/v1/health', { body: JSON.stringify(said) })
  t.match(await put(web, { outcome: 'pass' }), { status: 200 })
  t.match(await put(web, { outcome: 'fail', check: 'disk', detail: 'full', service: 'web' }), {
    status: 200,
  })
  t.strictSame(brought, [
    { outcome: 'pass', service: 'web', detail: '' },
    { outcome: 'fail', check: 'disk', service: 'web', detail: 'full' },
  ])
  t.match(await put(web, { outcome: 'pass', service: 'orders' }), {
    status: 403,
    answer: { error: { code: 'not-yours' } },
  })
  for (const from of [null, '{"service":null}', '{"service":"Web"}', 'web', '']) {
    t.match(await put(from, { outcome: 'pass', service: 'web' }), {
      status: 403,
      answer: { error: { code: 'unknown-caller' } },
    })
  }
  for (const said of [null, 7, 'pass']) t.match(await put(web, said), { status: 400 })
  t.match(await ask(web, 'PUT', '/v1/health', { body: 'pass' }), { status: 400 })
  t.match(await put(web, { outcome: 'pass', detail: 'x'.repeat(17_000) }), {
    status: 413,
    answer: { error: { code: 'too-large', message: /16384 bytes/ } },
  })
  t.equal(brought.length, 2)
})

t.test('nothing an operator does is here, nor does a page in a browser get in', async (t) => {
  const { ask, open } = await api(t)
  for (const path of [
    '/v1/status',
    '/v1/certificates',
    '/v1/checks',
    '/',
    '/v1/services/../status',
  ])
    t.match(await ask(web, 'GET', path), { status: 404 }, path)
  for (const path of ['/v1/rotation', '/v1/why'])
    t.match(await ask(web, 'PUT', path, { body: '{}' }), { status: 404 }, path)
  for (const method of ['POST', 'DELETE', 'PATCH'])
    t.match(
      await ask(web, method, '/v1/health'),
      { status: 405, answer: { error: { code: 'unknown-method' } } },
      method,
    )
  const { headers } = await open(web, 'DELETE', '/v1/health')
  t.equal(headers.allow, 'GET, HEAD, PUT')
  for (const host of ['evil.example', 'agent.mesh.evil.example', '10.0.0.1', '127.0.0.1.nip.io'])
    t.match(await ask(null, 'GET', '/v1/services', { host }), { status: 403 }, host)
  for (const host of [
    '127.0.0.1:15004',
    '127.0.1.5:15004',
    'localhost',
    '240.240.3.4',
    '[fd12:1:2::3]:80',
  ])
    t.match(await ask(null, 'GET', '/v1/services', { host }), { status: 200 }, host)
})

t.test('an answer that fails is refused like the others', async (t) => {
  const { ask, world } = await api(t)
  Object.defineProperty(world, 'services', {
    get: () => {
      throw new Error('broken')
    },
  })
  t.match(await ask(web, 'GET', '/v1/services'), {
    status: 500,
    answer: { error: { code: 'failed', message: /the log says why/ } },
  })
})

t.test('a stream tells what there is, then what changes', async (t) => {
  const { open, world, server } = await api(t)
  const response = await open(web, 'GET', '/v1/watch?service=orders&service=users')
  t.equal(response.headers['content-type'], 'text/event-stream')
  let seen = ''
  response.setEncoding('utf8').on('data', (chunk: string) => (seen += chunk))
  const told = () => seen.match(/^(?:event: \w+|data: .*"host":"\w+".*|data: \{"name":"\w+"\})$/gm)
  await until('what there is was told', () => seen.includes('event: ready'))
  t.strictSame(
    told()?.filter((line) => line.startsWith('event')),
    ['event: service', 'event: ready'],
  )
  seen = ''
  world.services = [orders, { ...orders, name: 'other' }, { ...orders, name: 'users' }]
  server.refresh()
  await until('the new one was told', () => seen.includes('"name":"users"'))
  t.notMatch(seen, 'orders', 'what did not change is not told again')
  t.notMatch(seen, 'other', 'nor what was not asked for')
  world.services = []
  server.refresh()
  await until('both are gone', () => (seen.match(/event: gone/g) ?? []).length === 2)
  response.destroy()
})

t.test('streams are few, and one that ends makes room', async (t) => {
  const { open, ask } = await api(t)
  const streams = await Promise.all(Array.from({ length: 16 }, () => open(web, 'GET', '/v1/watch')))
  t.match(await ask(web, 'GET', '/v1/watch'), { status: 503 })
  t.equal(
    (await open('{"service":"users"}', 'GET', '/v1/watch')).statusCode,
    200,
    'others are free',
  )
  t.match(await ask(web, 'GET', '/v1/watch?service=Bad'), { status: 400 })
  streams[0]?.destroy()
  await until('there is room', async () => (await open(web, 'GET', '/v1/watch')).statusCode === 200)
  for (const stream of streams) stream.destroy()
})

t.test('a caller has its share of the connections of all workers', async (t) => {
  const { ask, handed } = await api(t, { most: 3, mostOfOne: 2 })
  const open: Socket[] = []
  t.teardown(() => open.forEach((socket) => socket.destroy()))
  /** A connection that stays. */
  const stay = async (from: string): Promise<Socket> => {
    const socket = handed(`${from}\nGET /v1/self HTTP/1.1\r\nhost: agent.mesh\r\n\r\n`)
    open.push(socket)
    t.match(String((await once(socket, 'data'))[0]), 'HTTP/1.1 200 OK')
    return socket
  }
  const first = await stay(web)
  await stay(web)
  t.match(await ask(web, 'GET', '/v1/self'), {
    status: 503,
    answer: { error: { code: 'unavailable', message: /too many.*by one service/ } },
  })
  await stay('{"service":"users"}')
  t.match(await ask('{"service":null}', 'GET', '/v1/self'), {
    status: 503,
    answer: { error: { message: /too many connections to the API for applications$/ } },
  })
  t.match(
    await ask(null, 'GET', '/v1/self'),
    { status: 200 },
    'the loopback port counts for itself',
  )
  first.destroy()
  await until('what was closed does not count', async () => {
    const { status } = await ask(web, 'GET', '/v1/self')
    return status === 200
  })
})

t.test('programs that are no service share what one service has, and are told so', async (t) => {
  const { open, ask } = await api(t, { mostOfOne: 1 })
  const stays = await open('{"service":null}', 'GET', '/v1/watch')
  t.teardown(() => void stays.destroy())
  t.match(await ask('{"service":null}', 'GET', '/v1/self'), {
    status: 503,
    answer: { error: { message: /too many.* by programs that are no service: they share/ } },
  })
})

t.test('whoever does not introduce a caller is cut off', async (t) => {
  const { handed } = await api(t)
  const socket = handed('x'.repeat(2000))
  await until('it is closed', () => socket.destroyed)
  t.pass()
})
