import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { asUser, curlAs } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(400_000)

const run = promisify(execFile)
const users = { orders: 3001, web: 3002, billing: 3003, audit: 3004 } as const
const service = join(import.meta.dirname, '../support/service-program.ts')

t.test(
  'programs that know nothing of a mesh call by address, each with its own identity',
  async (t) => {
    const skip = lacks('netns', 'nft', 'curl', 'setpriv', 'dig')
    if (skip !== '') {
      t.plan(0, skip)
      return
    }
    const mesh = await MeshWorld.raise(t, { places: 'namespaces' })
    const { alpha, beta } = mesh
    const serve = (host: DemoHost, name: keyof typeof users, port: number): void => {
      const words = ['setpriv', `--reuid=${users[name]}`, '--clear-groups'] as const
      host.start(name, [
        ...words,
        process.execPath,
        service,
        'http',
        host.place.local,
        String(port),
        host.name,
      ])
      const intercept = name === 'orders' ? [`${host.place.address}:9080`] : []
      const run = { user: String(users[name]) }
      const named = name === 'orders' ? { ports: { admin: 8090 } } : {}
      const health = name === 'billing' ? { health: { kind: 'push', initial: 'passing' } } : {}
      const upstreams = name === 'web' ? { orders: 9001 } : {}
      host.dropManifest(name, { port, run, intercept, upstreams, ...named, ...health })
    }
    const adminPort = [service, 'http', beta.place.local, '8090', 'admin'] as const
    const asOrders = ['setpriv', `--reuid=${users.orders}`, '--clear-groups'] as const
    beta.start('admin', [...asOrders, process.execPath, ...adminPort])
    serve(alpha, 'web', 8081)
    serve(alpha, 'billing', 8082)
    serve(beta, 'orders', 8080)
    serve(beta, 'audit', 8083)
    for (const host of [alpha, beta]) {
      for (const name of ['orders', 'audit']) await mesh.sees(host, name, ['beta'])
      for (const name of ['web', 'billing']) await mesh.sees(host, name, ['alpha'])
      await mesh.until(`${host.name} knows each port of orders`, async () => {
        const found = (await host.admin.ask('services')).find(({ name }) => name === 'orders')
        return found?.ports.some(({ name }) => name === 'admin') === true
      })
      await mesh.until(`${host.name} captures`, async () => {
        const { capture } = await host.admin.ask('status')
        // Two ports of each service and three for the named one, in each family that there is.
        const services = await host.admin.ask('services')
        const wanted = services.reduce((sum, { addresses }) => sum + 2 * addresses.length, 0)
        return (
          capture.kind === 'on' && capture.callers.length === 2 && capture.destinations > wanted
        )
      })
    }
    const addresses = async (host: DemoHost, name: string): Promise<readonly string[]> =>
      (await host.admin.ask('services')).find((one) => one.name === name)?.addresses ?? []
    const source = (name: string): string => `"x-mesh-source":"spiffe://mesh.internal/${name}"`

    const dig = ['dig', '@127.0.0.1', '+short'] as const
    /** Programs ask the agent of their own host, and are known to it. */
    const askTheAgent = async (): Promise<void> => {
      const agent = (await asUser(alpha, users.web, ...dig, 'agent.mesh')).trim()
      const ask = (user: number, path: string, ...more: readonly string[]) => {
        const url = `http://agent.mesh${path}`
        const at = ['--resolve', `agent.mesh:80:${agent}`, '--max-time', '10', ...more] as const
        return asUser(alpha, user, 'curl', '-sS', ...at, url)
      }
      t.match(await ask(users.web, '/v1/self'), '"host":"alpha"')
      t.match(await ask(users.web, '/v1/self'), '"service":"web"')
      t.match(await ask(0, '/v1/self'), '"service":null', 'root is no service')
      t.match(await ask(4000, '/v1/services/orders'), '"name":"admin"', 'anybody may look')
      const bring = (user: number, said: object) =>
        ask(user, '/v1/health', '-X', 'PUT', '-d', JSON.stringify(said))
      t.match(await bring(users.billing, { outcome: 'pass' }), '"check":"push"')
      t.match(await bring(users.web, { outcome: 'fail', service: 'billing' }), 'not-yours')
      t.match(await bring(users.web, { outcome: 'fail' }), 'not-taken', 'it has no such check')
      for (const user of [0, 4000, users.orders])
        t.match(await bring(user, { outcome: 'fail', service: 'billing' }), 'unknown-caller')
      t.match(await ask(users.web, '/v1/status'), 'unknown-path', 'no admin verb')
      t.match(
        await curlAs(alpha, users.web, `http://${agent}:15020/metrics`),
        /^failed/,
        'one port',
      )
      await bring(users.billing, { outcome: 'fail', detail: 'said so itself' })
      const billing = (await alpha.admin.ask('manifests')).find((one) => one.service === 'billing')
      t.match(billing, { health: 'failing', healthDetail: 'said so itself' })
      await bring(users.billing, { outcome: 'pass' })
    }

    const [orders = '', orders6 = ''] = await addresses(alpha, 'orders')
    t.equal(await asUser(alpha, users.web, ...dig, 'orders.mesh'), `${orders}\n`)
    t.equal(await asUser(alpha, users.web, ...dig, '-x', orders), 'orders.mesh.\n')
    for (const name of ['web', 'billing'] as const) {
      for (const url of [`http://${orders}/`, `http://${orders}:8080/`, `http://[${orders6}]/`]) {
        const body = await curlAs(alpha, users[name], url)
        t.match(body, source(`service/${name}`), `${name} calls ${url}`)
        t.match(body, '"host":"beta"')
      }
    }
    t.match(await curlAs(alpha, 0, `http://${orders}/`), source('host/alpha'), 'root is the host')
    t.match(
      await curlAs(alpha, 4000, `http://${orders}/`),
      source('host/alpha'),
      'so is a stranger',
    )
    const [local = ''] = await addresses(beta, 'audit')
    t.match(
      await curlAs(beta, users.orders, `http://${local}/`),
      source('service/orders'),
      'same host',
    )
    const admin = (await asUser(alpha, users.web, ...dig, 'admin.orders.mesh')).trim()
    for (const url of [`http://${admin}/`, `http://${admin}:8090/`, `http://${orders}:8090/`]) {
      const body = await curlAs(alpha, users.web, url)
      t.match(body, source('service/web'), `web calls ${url}`)
      t.match(body, '"host":"admin"', 'a port by its name')
    }
    await askTheAgent()

    const real = `http://${beta.place.address}:9080/`
    t.match(await curlAs(alpha, users.web, real), source('service/web'), 'by a real address')
    // An explicit listener, whoever asked for it, knows its callers just as well.
    const explicit = 'http://127.0.0.1:9001/'
    t.match(await curlAs(alpha, users.web, explicit), source('service/web'), 'by a listener')
    t.match(await curlAs(alpha, users.billing, explicit), source('service/billing'))
    t.match(await curlAs(alpha, 4000, explicit), source('host/alpha'))
    const arrived = () => beta.accessLines(500).filter(({ direction }) => direction === 'inbound')
    await mesh.until('each call is recorded', () => arrived().length >= 15)
    t.equal(arrived().length, 15)
    t.ok(arrived().every(({ mtls, reason }) => mtls && reason === 'ok'))

    for (const host of [alpha, beta]) await host.endAgent('SIGTERM')
    for (const host of [alpha, beta]) {
      const [first = '', ...rest] = host.place.enter(['nft', 'list', 'ruleset'])
      t.equal((await run(first, rest)).stdout, '', `${host.name} has no rule left`)
    }
  },
)
