import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import t from 'tap'
import type { Child } from '#cli/demo/child.ts'
import { ports } from '#cli/demo/demo-host.ts'
import { call, type CallTarget } from '#test/support/callers.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { underLoad, type More } from '#test/support/under-load.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const mesh = await MeshWorld.raise(t)
const { world, alpha, beta } = mesh
const upstreams = { orders: 9001, solo: 9002 }

for (const host of [alpha, beta]) {
  host.dropManifest('orders', { port: 8080, address: host.place.local })
  host.dropManifest('web', { upstreams })
}
beta.dropManifest('solo', { port: 8081, address: beta.place.local })

/** Starts what the two hosts serve; solo is on beta alone. */
const startServices = (): { readonly all: readonly Child[]; readonly solo: Child } => {
  const orders = [alpha, beta].map((host) => mesh.serve(host, 'http', 'orders', 8080))
  const solo = mesh.serve(beta, 'http', 'solo', 8081)
  return { all: [...orders, solo], solo }
}
let services = startServices()
for (const host of [alpha, beta]) {
  await mesh.sees(host, 'orders', ['alpha', 'beta'])
  await mesh.sees(host, 'solo', ['beta'])
}

// The disk follows within a second, as the agent promises; what happens before is not its matter.
for (const [host, record] of [
  [alpha, '/solo/beta/'],
  [beta, '/orders/alpha/'],
] as const) {
  await mesh.until(`${host.name} keeps what it sees`, () => {
    return readFileSync(host.path('state/snapshot.json'), 'utf8').includes(record)
  })
}

const callsOf = (host: typeof alpha): readonly CallTarget[] => {
  const { local } = host.place
  return [
    { host: local, port: upstreams.orders },
    { host: local, port: upstreams.solo, fresh: true },
    { host: local, port: upstreams.solo, method: 'POST' },
  ]
}
const under = (t: Parameters<typeof underLoad>[0], happens: (more: More) => Promise<void>) =>
  underLoad(t, { mesh, targets: [...callsOf(alpha), ...callsOf(beta)], happens })

t.test('killing controller and store fails no request', async (t) => {
  await under(t, async (more) => {
    await world.endController('SIGKILL')
    await mesh.until('both agents have noticed', async () => {
      const contacts = await Promise.all(
        world.hosts.map(async (host) => (await host.admin.ask('status')).store.kind),
      )
      return contacts.every((kind) => kind === 'down')
    })
    await more('alpha')
    await more('beta')
  })
})

t.test('with both away, pairs that never talked find each other', async (t) => {
  const target = { host: alpha.place.local, port: ports.forwardProxy, path: 'http://solo.mesh/' }
  t.match(await call(target), { status: 200, host: 'beta' })
})

t.test('with both away, a control process that is killed costs nothing', async (t) => {
  await under(t, async (more) => {
    for (const host of world.hosts) {
      const { control } = await mesh.pids(host)
      process.kill(control, 'SIGKILL')
      await mesh.until('another one is there', async () => {
        return (await mesh.pids(host)).control !== control
      })
      await mesh.ready(host)
      t.equal((await host.admin.ask('status')).snapshot.source, 'disk')
      await more('alpha')
      await more('beta')
    }
  })
})

t.test('with both away, hosts that reboot serve and call from their disks', async (t) => {
  for (const service of services.all) service.kill()
  for (const host of world.hosts) {
    await host.endAgent('SIGKILL')
    await mesh.until('its programs have ended', () => {
      return !mesh.processes().some((line) => line.includes(host.path('agent.json')))
    })
    // What is in /run does not live through it.
    rmSync(host.path('run'), { recursive: true })
    mkdirSync(host.path('run'))
  }
  for (const host of world.hosts) host.startAgent()
  for (const host of world.hosts) {
    await mesh.ready(host)
    t.equal((await host.admin.ask('status')).snapshot.source, 'disk')
  }
  services = startServices()
  for (const host of world.hosts) {
    await mesh.sees(host, 'orders', ['alpha', 'beta'])
    await mesh.sees(host, 'solo', ['beta'])
  }
  // Far instances come from the disk; those of this host are there once their checks have passed.
  for (const target of [...callsOf(alpha), ...callsOf(beta)]) {
    await mesh.until('it is answered', async () => (await call(target)).status === 200)
  }
  await under(t, async (more) => {
    await more('alpha')
    await more('beta')
  })
})

t.test('with both away, an instance that dies is left alone by its callers', async (t) => {
  const local = alpha.place.local
  const targets = [{ host: local, port: upstreams.orders }]
  const { worker } = await mesh.pids(beta)
  await underLoad(t, {
    mesh,
    targets,
    happens: async (more) => {
      process.kill(worker, 'SIGKILL')
      await more('alpha')
    },
  })
  services.solo.kill()
  await services.solo.ended
  const reason = { status: 503, headers: { 'x-mesh-reason': /^(instance-refused|no-instances)$/ } }
  await mesh.until('another worker takes calls', async () => {
    const [another] = (await beta.admin.ask('status')).workers
    const open = another?.listeners.find(({ port }) => port === upstreams.solo)?.problem === ''
    return another?.pid !== worker && open
  })
  await mesh.acts(beta)
  t.match(await call({ host: beta.place.local, port: upstreams.solo }), reason)
})

t.test('when they are back, everything is as if nothing had been', async (t) => {
  const targets = [{ host: alpha.place.local, port: upstreams.orders }]
  await underLoad(t, {
    mesh,
    targets,
    happens: async (more) => {
      await world.startController()
      for (const host of world.hosts) {
        await mesh.until(`${host.name} has its store again`, async () => {
          return (await host.admin.ask('status')).store.kind === 'up'
        })
      }
      mesh.serve(alpha, 'http', 'late', 8082)
      alpha.dropManifest('late', { port: 8082, address: alpha.place.local })
      await mesh.sees(beta, 'late', ['alpha'])
      await more('beta')
    },
  })
  const target = { host: beta.place.local, port: ports.forwardProxy, path: 'http://late.mesh/' }
  t.match(await call(target), { status: 200, host: 'alpha' })
})
