/**
 * Who may call is decided by the identity of the calling service, on real hosts: unmodified programs
 * under users of their own, rules of the kernel that tell them apart, and a locked port.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { call } from '#test/support/callers.ts'
import { asUser, curlAs, userCommand } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(400_000)

const users = { orders: 3001, ledger: 3002, web: 3003, billing: 3004 } as const
const program = join(import.meta.dirname, '../support/service-program.ts')

t.test('a service is called by whom its manifest allows by name, and by nobody else', async (t) => {
  const skip = lacks('netns', 'nft', 'curl', 'setpriv')
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const mesh = await MeshWorld.raise(t, { places: 'namespaces' })
  const { alpha, beta } = mesh
  const serve = (host: typeof alpha, name: keyof typeof users, kind: string, port: number): void =>
    void host.start(
      name,
      userCommand(users[name], process.execPath, program, kind, '0.0.0.0', `${port}`, host.name),
    )
  const run = (name: keyof typeof users) => ({ user: String(users[name]) })
  const allowOrders = (...allow: readonly string[]): void =>
    beta.dropManifest('orders', { port: 8080, run: run('orders'), allow })
  serve(beta, 'orders', 'http', 8080)
  serve(beta, 'ledger', 'echo', 8082)
  serve(alpha, 'web', 'http', 8081)
  serve(alpha, 'billing', 'http', 8083)
  allowOrders('web')
  const tcp = { port: 8082, protocol: 'tcp', run: run('ledger') }
  beta.dropManifest('ledger', { ...tcp, allow: ['service/web'] })
  alpha.dropManifest('web', { port: 8081, run: run('web') })
  alpha.dropManifest('billing', { port: 8083, run: run('billing') })
  for (const host of [alpha, beta]) {
    await mesh.sees(host, 'orders', ['beta'])
    await mesh.sees(host, 'ledger', ['beta'])
    // Whoever calls has its certificate by then.
    for (const name of ['web', 'billing']) await mesh.sees(host, name, ['alpha'])
    await mesh.until(`${host.name} captures`, async () => {
      const { capture } = await host.admin.ask('status')
      // Two ports of each service, in each family that the machine has.
      const services = await host.admin.ask('services')
      const wanted = services.reduce((sum, { addresses }) => sum + 2 * addresses.length, 0)
      return capture.kind === 'on' && capture.callers.length === 2 && capture.destinations >= wanted
    })
  }

  // It listens beyond loopback, so only the lock makes the manifest count.
  const receipt = () =>
    JSON.parse(readFileSync(beta.path('run/status/orders.json'), 'utf8')) as object
  await mesh.until('the receipt is there', () => JSON.stringify(receipt()).includes('"accepted"'))
  t.match(receipt(), { verdict: 'accepted', inForce: 'this version' })
  for (const name of ['orders', 'ledger']) {
    const found = async () =>
      (await beta.admin.ask('policies')).services.find(({ service }) => service === name)
    await mesh.until(`${name} is locked`, async () => (await found())?.protection === 'locked')
    t.match(await found(), { strict: true, protection: 'locked', fallback: 'deny' })
  }

  const url = 'http://orders.mesh/'
  t.match(
    await curlAs(alpha, users.web, url),
    '"x-mesh-source":"spiffe://mesh.internal/service/web"',
  )
  const file = beta.path('mesh.d/orders.json')
  const arrived = () => beta.accessLines(500).filter(({ direction }) => direction === 'inbound')
  // The one above.
  let inbound = 1
  for (const [name, user] of [
    ['service/billing', users.billing],
    ['host/alpha', 3999],
    ['host/alpha', 0],
  ] as const) {
    const body = await curlAs(alpha, user, url)
    t.match(body, `default deny (${file}:`, `${name} is told which rule`)
    inbound += 1
    await mesh.until(`the call of ${name} is recorded`, () => arrived().length >= inbound)
    t.match(arrived().at(-1), {
      reason: 'policy-denied',
      source: `spiffe://mesh.internal/${name}`,
    })
  }
  // The same host, where no tunnel is between.
  t.match(await curlAs(beta, users.ledger, url), `default deny (${file}:`)

  const talk = (user: number): Promise<string> => {
    const words = 'exec 3<>/dev/tcp/ledger.mesh/8082 && echo hello >&3 && timeout 15 head -c 6 <&3'
    return asUser(alpha, user, 'bash', '-c', words)
  }
  t.equal(await talk(users.web), 'hello\n')
  t.notMatch(await talk(users.billing), 'hello')
  const around = await call({ host: beta.place.address, port: 8080 }).catch(() => null)
  t.not(around?.status, 200, 'from outside of both hosts')
  t.match(
    await asUser(alpha, users.web, 'curl', '-sS', '-m5', `http://${beta.place.address}:8080/`),
    /failed/,
  )
  t.match(await curlAs(beta, users.ledger, 'http://127.0.0.1:8080/'), /failed|default deny/)

  allowOrders('billing')
  await mesh.until('the word of the manifest is the other way round', async () => {
    const [web, billing] = [
      await curlAs(alpha, users.web, url),
      await curlAs(alpha, users.billing, url),
    ]
    return web.includes('default deny') && billing.includes('service/billing"')
  })
})
