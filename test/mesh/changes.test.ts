import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import t from 'tap'
import type { Child } from '#cli/demo/child.ts'
import { ports } from '#cli/demo/demo-host.ts'
import { manifestApply } from '#cli/manifest-apply.ts'
import { Printer } from '#cli/output/printer.ts'
import { drain, undrain } from '#cli/rotation.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import type { CallTarget } from '#test/support/callers.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { underLoad, type More } from '#test/support/under-load.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

// The shortest life a certificate may have: a new one every ten seconds or less.
const mesh = await MeshWorld.raise(t, { leafTtlSeconds: 20 })
const { alpha, beta } = mesh
const upstreams = { orders: 9001, solo: 9002, echo: 9003 }

/** The manifest of a service on one host, as it stands at first or changed. */
function drop(host: typeof alpha, name: string, port: number, more = {}): void {
  host.dropManifest(name, { port, address: host.place.local, ...more })
}

for (const host of [alpha, beta]) {
  mesh.serve(host, 'http', 'orders', 8080)
  drop(host, 'orders', 8080)
}
const solo = mesh.serve(beta, 'http', 'solo', 8081)
mesh.serve(beta, 'echo', 'echo', 8082)
drop(beta, 'solo', 8081)
drop(beta, 'echo', 8082, { protocol: 'tcp' })
alpha.dropManifest('web', { upstreams })
await mesh.sees(alpha, 'orders', ['alpha', 'beta'])
await mesh.sees(alpha, 'solo', ['beta'])
await mesh.sees(alpha, 'echo', ['beta'])

const host = alpha.place.local
const targets: readonly CallTarget[] = [
  { host, port: upstreams.orders },
  { host, port: upstreams.orders, fresh: true },
  { host, port: upstreams.solo },
  { host, port: upstreams.solo, method: 'POST' },
  { host, port: ports.forwardProxy, path: 'http://orders.mesh/', method: 'POST' },
]
const under = (t: Parameters<typeof underLoad>[0], happens: (more: More) => Promise<void>) =>
  underLoad(t, { mesh, targets, happens })

t.test('every certificate is replaced under load, and a raw connection lives on', async (t) => {
  const serials = async (): Promise<ReadonlyMap<string, string>> => {
    const all = await Promise.all(mesh.world.hosts.map((one) => one.admin.ask('certificates')))
    return new Map(
      all.flatMap((list, at) => list.map((one) => [`${at} ${one.identity}`, one.serial])),
    )
  }
  const socket = connect({ host, port: upstreams.echo })
  await once(socket, 'connect')
  const before = await serials()
  t.equal(before.size, 2 + 2 + 2, 'two hosts, two instances of orders, solo and echo')
  await under(t, async (more) => {
    await mesh.until('every certificate is another one', async () => {
      const now = await serials()
      return [...before].every(([identity, serial]) => now.get(identity) !== serial)
    })
    await more('alpha')
    await more('beta')
  })
  socket.write('still here?')
  const [answer] = (await once(socket, 'data')) as [Buffer]
  t.equal(answer.toString(), 'still here?')
  socket.destroy()
})

let moved: Child | null = null

t.test('a service moves to another port under load', async (t) => {
  await under(t, async (more) => {
    moved = mesh.serve(beta, 'http', 'orders-new', 8090)
    mesh.serve(beta, 'http', 'solo-new', 8091)
    await mesh.until('the new program listens', () => listens(beta.place.local, 8091))
    await mesh.until('the other one too', () => listens(beta.place.local, 8090))
    drop(beta, 'orders', 8090)
    // Its only instance: the first checks at the new port must not take it away meanwhile.
    drop(beta, 'solo', 8091, { health: { rise: 3 } })
    await mesh.until('alpha is told of the new ports', async () => {
      const services = await alpha.admin.ask('services')
      const of = (service: string) =>
        services
          .find(({ name }) => name === service)
          ?.instances.find((instance) => instance.host === 'beta')?.port
      return of('orders') === 8090 && of('solo') === 8091
    })
    // Nothing is under way to the old ones once callers have got on after that.
    for (const host of [alpha, beta]) await mesh.acts(host)
    await more('beta')
    await solo.stop(0)
    await more('beta')
  })
})

t.test('a check that asks something else takes nothing away while it first does', async (t) => {
  const directory = beta.path('mesh.d')
  const streams = { out: () => {}, err: () => {} }
  const parts = {
    agent: beta.admin,
    clock: systemClock,
    printer: new Printer({ streams }, { json: false }),
  }
  const apply = (name: string, content: object, waitMs = 120_000): Promise<number> => {
    const file = beta.path(`services/${name}.json`)
    writeFileSync(file, JSON.stringify({ address: beta.place.local, ...content }))
    return manifestApply(parts, { file, user: '', directory, waitMs })
  }
  await under(t, async (more) => {
    const health = { name: 'tcp', kind: 'http', path: '/up', rise: 3 }
    t.equal(await apply('solo', { port: 8091, health }), 0)
    t.equal(await apply('solo', { port: 8091, health: { ...health, path: '/other' } }), 0)
    await more('beta')
  })
  mesh.serve(beta, 'http', 'shop', 8084)
  t.equal(await apply('shop', { port: 8084 }), 0)
  t.equal(await apply('shop', { port: 8999 }, 1000), 1, 'nobody listens there')
  beta.removeManifest('shop')
})

t.test('weights take effect under load', async (t) => {
  await under(t, async () => {
    drop(alpha, 'orders', 8080, { weight: 1 })
    drop(beta, 'orders', 8090, { weight: 1000 })
    await mesh.until('alpha is told of the new weights', async () => {
      const services = await alpha.admin.ask('services')
      const orders = services.find(({ name }) => name === 'orders')?.instances ?? []
      return (
        orders.some(({ weight }) => weight === 1) && orders.some(({ weight }) => weight === 1000)
      )
    })
  })
})

t.test('a service whose manifest is removed under load is drained', async (t) => {
  await under(t, async (more) => {
    beta.removeManifest('orders')
    await mesh.sees(alpha, 'orders', ['alpha'])
    await more('alpha')
    drop(beta, 'orders', 8090)
    await mesh.sees(alpha, 'orders', ['alpha', 'beta'])
    alpha.removeManifest('orders')
    await mesh.sees(alpha, 'orders', ['beta'])
    await more('beta')
  })
})

t.test('a service drained by command and then stopped under load loses nothing', async (t) => {
  drop(alpha, 'orders', 8080)
  // It need not wait for that long: only for what is open.
  drop(beta, 'orders', 8090, { drainMs: 600_000 })
  await mesh.sees(alpha, 'orders', ['alpha', 'beta'])
  const words: string[] = []
  const streams = { out: (text: string) => void words.push(text), err: () => {} }
  const printer = new Printer({ streams }, { json: false })
  const parts = { agent: beta.admin, clock: systemClock, printer }
  await under(t, async (more) => {
    await more('beta')
    t.equal(await drain(parts, { target: 'orders', reason: 'test', waitMs: 60_000 }), 0)
    t.match(words.join(''), /nothing reaches it: orders/)
    await moved?.stop(0)
    await more('alpha')
    mesh.serve(beta, 'http', 'orders-again', 8090)
    t.equal(await undrain(parts, { target: 'orders' }), 0)
    await mesh.sees(alpha, 'orders', ['alpha', 'beta'])
    await more('beta')
  })
})

t.test('a drain waits for a connection that is open, and says so', async (t) => {
  drop(beta, 'echo', 8082, { protocol: 'tcp', drainMs: 600_000 })
  const socket = connect({ host, port: upstreams.echo })
  await once(socket, 'connect')
  socket.write('here')
  await once(socket, 'data')
  const words: string[] = []
  const streams = {
    out: (text: string) => void words.push(text),
    err: (text: string) => void words.push(text),
  }
  const printer = new Printer({ streams }, { json: false })
  const parts = { agent: beta.admin, clock: systemClock, printer }
  const drained = drain(parts, { target: 'echo', reason: '', waitMs: 120_000 })
  await mesh.until('it says what it waits for', () => {
    return words.includes('waiting for echo (1 request or connection open)\n')
  })
  // Longer than its callers are given to hear of it: the connection is what it waits for.
  await mesh.until('nothing new is let in', async () => {
    const log = readFileSync(beta.path('agent.log'), 'utf8')
    return log.includes('instance: offered -> withheld')
  })
  socket.write('still here')
  const [answer] = (await once(socket, 'data')) as [Buffer]
  t.equal(answer.toString(), 'still here')
  socket.destroy()
  t.equal(await drained, 0)
  t.match(words.at(-1), /nothing reaches it: echo/)
})

async function listens(address: string, port: number): Promise<boolean> {
  const socket = connect({ host: address, port })
  try {
    await once(socket, 'connect')
    return true
  } finally {
    socket.destroy()
  }
}
