/** What a local user, a neighbour or a thief of ports gets by pretending: nothing, row by row. */

import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { asUser, curlAs } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(480_000)

const run = promisify(execFile)
const orders = 3001
const web = 3002
const thief = 3666
const service = join(import.meta.dirname, '../support/service-program.ts')

t.test('a forged attempt gets nothing', async (t) => {
  const skip = lacks('netns', 'nft', 'curl', 'setpriv')
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const mesh = await MeshWorld.raise(t, { places: 'namespaces' })
  const { alpha, beta } = mesh
  const serve = (host: DemoHost, user: number, name: string, port: number, address: string) =>
    host.start(`${name}-${user}`, [
      'setpriv',
      `--reuid=${user}`,
      '--clear-groups',
      process.execPath,
      service,
      'http',
      address,
      String(port),
      `${host.name}-${user}`,
    ])
  const server = serve(beta, orders, 'orders', 8080, '0.0.0.0')
  serve(alpha, web, 'web', 8081, '127.0.0.1')
  beta.dropManifest('orders', { port: 8080, run: { user: `${orders}` }, inbound: 'strict' })
  alpha.dropManifest('web', { port: 8081, run: { user: `${web}` } })
  for (const host of [alpha, beta]) {
    await mesh.sees(host, 'orders', ['beta'])
    await mesh.sees(host, 'web', ['alpha'])
    await mesh.until(`${host.name} captures`, async () => {
      const { capture } = await host.admin.ask('status')
      return (
        capture.kind === 'on' &&
        typeof capture.callers[0]?.user === 'number' &&
        capture.destinations > 7
      )
    })
  }
  const services = await alpha.admin.ask('services')
  const [v4 = '', v6 = ''] = services.find(({ name }) => name === 'orders')?.addresses ?? []
  let port = 0
  await mesh.until('the kernel leads web to its port', async () => {
    const map = ['nft', '-n', 'list', 'map', 'inet', 'hostmesh', 'callers']
    const [first = '', ...rest] = alpha.place.enter(map)
    const callers = (await run(first, rest)).stdout
    port = Number(new RegExp(`${web} : (\\d+)`).exec(callers)?.[1])
    return port > 0
  })
  t.match(
    await curlAs(alpha, web, `http://${v4}/`),
    '"x-mesh-source":"spiffe://mesh.internal/service/web"',
  )

  const refused = /failed (?:7|28|56):/
  const rows: readonly (readonly [string, DemoHost, number, string])[] = [
    ['another caller’s port at the virtual IP', alpha, thief, `http://${v4}:${port}/`],
    ['the same by IPv6', alpha, thief, `http://[${v6}]:${port}/`],
    ['another caller’s port on loopback', alpha, thief, `http://127.0.0.1:${port}/`],
    [
      'another caller’s port on the host’s address',
      alpha,
      thief,
      `http://${alpha.place.address}:${port}/`,
    ],
    ['one’s own port directly', alpha, web, `http://127.0.0.1:${port}/`],
    ['the port of unknown callers', alpha, thief, 'http://127.0.0.1:18000/'],
    ['another port of a virtual IP', alpha, thief, `http://${v4}:22/`],
    ['the agent’s own ports through a virtual IP', alpha, thief, `http://${v4}:15020/metrics`],
    ['a virtual IP of nobody', alpha, thief, 'http://240.240.255.254/'],
    ['a neighbour dials a caller’s port', beta, thief, `http://${alpha.place.address}:${port}/`],
    ['a neighbour dials a strict service', alpha, thief, `http://${beta.place.address}:8080/`],
    ['its own host dials it at another address', beta, thief, `http://${beta.place.address}:8080/`],
  ]
  for (const [what, host, user, url] of rows) t.match(await curlAs(host, user, url), refused, what)
  const spoofed = ['curl', '-sS', '--max-time', '3', '--interface', '240.240.7.7']
  for (const to of [port, 8081])
    t.match(
      await asUser(beta, thief, ...spoofed, `http://${alpha.place.address}:${to}/`),
      refused,
      `a neighbour with the source address of a virtual IP dials port ${to}`,
    )
  const tunnel = `https://${alpha.place.address}:15008/`
  t.match(
    await asUser(beta, thief, 'curl', '-sSk', '--http2', '--max-time', '3', tunnel),
    /failed (?:16|35|52|55|56|92):/,
    'the tunnel’s port takes nobody without a certificate',
  )
  const proxy = ['curl', '-sSi', '--max-time', '3', '-x', 'http://127.0.0.1:15002']
  for (const at of [`127.0.0.1:${port}`, '127.0.0.1:15002', '127.0.0.1:15020', `${v4}:80`])
    t.match(
      await asUser(alpha, thief, ...proxy, `http://${at}/`),
      'not-mesh-name',
      `the forward proxy leads nobody to ${at}`,
    )
  alpha.dropManifest('loop', { port: 15_002 })
  await mesh.until('no manifest makes a service of the agent', async () =>
    (await alpha.admin.ask('manifests')).some(
      ({ file, problems }) =>
        file.endsWith('/loop.json') &&
        problems.some((one) => one.includes('the agent’s own: the forward proxy')),
    ),
  )
  const datagram = `const s = require('node:dgram').createSocket('udp4')
    s.on('error', (e) => { console.log(e.code); s.close() })
    s.connect(443, '${v4}', () => s.send('x'))`
  t.match(
    await asUser(alpha, thief, process.execPath, '-e', datagram),
    'ECONNREFUSED',
    'UDP is refused at once',
  )

  const direct = await curlAs(beta, thief, 'http://127.0.0.1:8080/')
  t.match(
    direct,
    '"x-mesh-source":"spiffe://mesh.internal/host/beta"',
    'a local dial is led into the mesh',
  )
  const own = await curlAs(beta, orders, 'http://127.0.0.1:8080/')
  t.notMatch(own, 'x-mesh-source', 'the service itself reaches itself')
  t.match(own, 'beta-3001')

  const route = async (...words: readonly string[]): Promise<void> => {
    const [first = '', ...rest] = beta.place.enter(['ip', 'route', ...words])
    await run(first, rest)
  }
  await beta.endAgent('SIGTERM')
  await route('add', '240.240.0.0/16', 'via', alpha.place.address)
  for (const url of [`http://${v4}/`, `http://${v4}:${port}/`])
    t.match(await curlAs(beta, thief, url), refused, `a neighbour routes ${url} at this host`)
  await route('del', '240.240.0.0/16')
  beta.startAgent()
  await mesh.ready(beta)
  await mesh.sees(alpha, 'orders', ['beta'])

  // A thief answers where the service answered.
  await mesh.until(
    'beta captures again',
    async () => (await beta.admin.ask('status')).capture.kind === 'on',
  )
  server.kill()
  await server.ended
  const stolen = serve(beta, thief, 'stolen', 8080, '0.0.0.0')
  await mesh.until('the thief listens', async () => {
    const [first = '', ...rest] = beta.place.enter(['ss', '-ltnH', 'sport = :8080'])
    return (await run(first, rest)).stdout.includes('8080')
  })
  for (const url of ['http://127.0.0.1:8080/', `http://${v4}/`])
    t.notMatch(await curlAs(beta, web, url), 'beta-3666', `the thief never answers ${url}`)
  t.notMatch(await curlAs(alpha, web, `http://${v4}/`), 'beta-3666', 'nor to another host')
  stolen.kill()
  await stolen.ended

  // The whole agent is killed: a thief takes the ports of its callers.
  const pids = await mesh.pids(alpha)
  for (const pid of [alpha.agent?.pid, pids.control, pids.worker]) process.kill(pid ?? 0, 'SIGKILL')
  await mesh.until('the worker is gone', async () =>
    (await curlAs(alpha, web, `http://${v4}/`)).includes('failed 7'),
  )
  serve(alpha, thief, 'callers', port, '0.0.0.0')
  await mesh.until('the thief listens', async () => {
    const [first = '', ...rest] = alpha.place.enter(['ss', '-ltnH', `sport = :${port}`])
    return (await run(first, rest)).stdout.includes(`:${port}`)
  })
  t.notMatch(await curlAs(alpha, web, `http://${v4}/`), 'alpha-3666', 'the thief hears no caller')
})
