import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { ports } from '#cli/demo/demo-host.ts'
import { call } from '#test/support/callers.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { thisMachine } from '#test/support/this-machine.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const service = `${import.meta.dirname}/../support/service-program.ts`

t.test('each port of a service is called by its name, between hosts and within one', async (t) => {
  const mesh = await MeshWorld.raise(t)
  const { alpha, beta } = mesh
  const serve = (kind: string, port: number, says: string): void => {
    beta.start(says, [thisMachine.node, service, kind, beta.place.local, String(port), says])
  }
  serve('http', 8080, 'main')
  serve('http', 8090, 'admin')
  serve('http', 8092, 'moved')
  serve('echo', 8091, 'raw')
  const orders = (admin: object, more = {}) => ({
    address: beta.place.local,
    ports: { http: 8080, admin, raw: { port: 8091, protocol: 'tls' } },
    allow: ['*'],
    ...more,
  })
  beta.dropManifest('orders', orders({ port: 8090, allow: ['host/alpha'] }))
  alpha.dropManifest('web', { upstreams: { 'admin.orders': 9001, 'raw.orders': 9002 } })
  for (const host of [alpha, beta]) await mesh.sees(host, 'orders', ['beta'])
  await mesh.until('alpha knows each port', async () => {
    const found = (await alpha.admin.ask('services')).find(({ name }) => name === 'orders')
    return found?.ports.length === 3
  })
  await mesh.until('alpha listens for its callers', async () => {
    const [worker] = (await alpha.admin.ask('status')).workers
    return worker?.listeners.filter(({ problem }) => problem === '').length === 3
  })
  const viaProxy = (host: typeof alpha, url: string) =>
    call({ host: host.place.local, port: ports.forwardProxy, path: url })
  const said = async (url: string, host = alpha): Promise<string> => {
    const { status, host: name, headers } = await viaProxy(host, url)
    return status === 200 ? name : `${status} ${String(headers['x-mesh-reason'])}`
  }

  // Each port has checks of its own, and is there once they have passed.
  for (const name of ['http', 'admin'])
    await mesh.until(`${name} answers`, async () => {
      return !(await said(`http://${name}.orders.mesh/`)).startsWith('5')
    })
  t.equal(await said('http://orders.mesh/'), 'main')
  t.equal(await said('http://http.orders.mesh/'), 'main')
  t.equal(await said('http://admin.orders.mesh/'), 'admin')
  t.equal(await said('http://orders.mesh:8090/'), 'admin', 'by its number too')
  t.equal(await said('http://no.orders.mesh/'), '404 unknown-service')
  t.equal(await said('http://admin.orders.mesh/', beta), '403 policy-denied', 'not from beta')
  t.equal(await said('http://orders.mesh/', beta), 'main')
  const listener = await call({ host: alpha.place.local, port: 9001 })
  t.equal(listener.host, 'admin')
  t.match(listener.body, '"x-mesh-source":"spiffe://mesh.internal/host/alpha"')
  await mesh.until('the raw port answers', async () => (await raw()) !== '')
  t.equal(await raw(), 'hello goodbye from raw')

  const services = await alpha.admin.ask('services')
  t.match(services, [
    {
      name: 'orders',
      ports: [
        { name: 'admin', protocol: 'http' },
        { name: 'http', protocol: 'http' },
        { name: 'raw', protocol: 'tcp' },
      ],
    },
  ])
  const { identity } = (await beta.admin.ask('certificates')).find((one) =>
    one.identity.includes('/service/'),
  ) ?? { identity: '' }
  t.equal(identity, 'spiffe://mesh.internal/service/orders', 'one certificate for all of them')
  const receipt = readFileSync(beta.path('run/status/orders.json'), 'utf8')
  t.match(receipt, /port raw: tls is carried as the bytes it is/)

  beta.dropManifest('orders', orders({ port: 8092, allow: ['*'] }))
  await mesh.until(
    'the port has moved',
    async () => (await said('http://admin.orders.mesh/')) === 'moved',
  )
  t.equal(await said('http://admin.orders.mesh/', beta), 'moved')

  const health = { portName: 'admin', kind: 'http', path: '/', fall: 1 }
  beta.dropManifest('orders', orders({ port: 8099, protocol: 'http', allow: ['*'] }, { health }))
  await mesh.until(
    'only the port whose check fails is away',
    async () => (await said('http://admin.orders.mesh/')) === '503 no-instances',
  )
  t.equal(await said('http://orders.mesh/'), 'main')

  async function raw(): Promise<string> {
    const socket = connect(9002, alpha.place.local)
    await once(socket, 'connect')
    socket.end('hello ')
    return text(socket)
  }
})
