/** A mesh whose root is replaced under load, and one of whose hosts is banned. */

import { once } from 'node:events'
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import { openOperatorClient } from '#shared/rpc/operator-file.ts'
import { call, type CallTarget } from '#test/support/callers.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { underLoad } from '#test/support/under-load.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(400_000)

// A certificate must outlive a controller that is started again, on a crowded machine too.
const mesh = await MeshWorld.raise(t, { leafTtlSeconds: 40 })
const { world, alpha, beta } = mesh
const upstreams = { orders: 9001, solo: 9002, echo: 9003 }
for (const host of world.hosts) {
  mesh.serve(host, 'http', 'orders', 8080)
  host.dropManifest('orders', { port: 8080, address: host.place.local })
  host.dropManifest('web', { upstreams })
}
mesh.serve(beta, 'http', 'solo', 8081)
beta.dropManifest('solo', { port: 8081, address: beta.place.local })
mesh.serve(beta, 'echo', 'echo', 8082)
beta.dropManifest('echo', { port: 8082, address: beta.place.local, protocol: 'tcp' })
for (const host of world.hosts) {
  await mesh.sees(host, 'orders', ['alpha', 'beta'])
  await mesh.sees(host, 'solo', ['beta'])
  await mesh.sees(host, 'echo', ['beta'])
}
const callsOf = (host: typeof alpha): readonly CallTarget[] => [
  { host: host.place.local, port: upstreams.orders },
  { host: host.place.local, port: upstreams.orders, fresh: true },
  { host: host.place.local, port: upstreams.solo, method: 'POST' },
]
const rootOf = (): string => {
  const file = JSON.parse(readFileSync(world.operatorFile, 'utf8')) as { bundlePem: string }
  return file.bundlePem
}
const meshctl = async (...words: readonly string[]): Promise<string> => {
  const { ok, output } = await world.meshctl(...words)
  if (!ok) throw new Error(`meshctl ${words.join(' ')}: ${output}`)
  return output
}

const store = join(world.directory, 'controller/state/store.sqlite')
const oldStore = join(world.directory, 'old.sqlite')

/** Stops the controller, lets something happen to the file of its store, and starts it again. */
async function whileStopped(hosts: readonly (typeof alpha)[], happens: () => void): Promise<void> {
  await world.endController('SIGTERM')
  happens()
  await world.startController()
  await mesh.until('each of these hosts has the store again', async () => {
    const all = await Promise.all(hosts.map((host) => host.admin.ask('status')))
    return all.every(({ store }) => store.kind === 'up')
  })
}

await whileStopped(world.hosts, () => copyFileSync(store, oldStore))

t.test('the root is replaced under load without a lost request', async (t) => {
  const before = rootOf()
  const socket = connect({ host: alpha.place.local, port: upstreams.echo })
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  t.match(await meshctl('ca', 'rotate', '--status'), /^phase +steady/)
  const targets = [...callsOf(alpha), ...callsOf(beta)]
  await underLoad(t, {
    mesh,
    targets,
    happens: async (more) => {
      await meshctl('ca', 'rotate')
      await more('alpha')
      await more('beta')
    },
  })
  socket.write('still here?')
  const [answer] = (await once(socket, 'data')) as [Buffer]
  t.equal(answer.toString(), 'still here?', 'a raw connection lives on')
  t.not(rootOf(), before)
  t.equal(rootOf().match(/BEGIN/g)?.length, 1, 'one root is left')
  for (const host of world.hosts) {
    await mesh.until(`${host.name} keeps the new root alone`, () => rootsOn(host).length === 1)
    t.same(rootsOn(host), [rootOf().trim()])
  }
})

/** The roots that a host trusts when it starts again. */
function rootsOn(host: typeof alpha): readonly string[] {
  const trust = JSON.parse(readFileSync(host.path('state/identity/trust.json'), 'utf8')) as {
    bundle: string
  }
  const { body } = JSON.parse(trust.bundle) as { body: string }
  return (JSON.parse(body) as { roots: string[] }).roots.map((pem) => pem.trim())
}

const admin: CallTarget = {
  host: alpha.place.local,
  port: upstreams.orders,
  path: '/admin/keys',
}

t.test('a policy of the mesh is in force on its hosts, and names itself', async (t) => {
  t.match(await call(admin), { status: 200 })
  const operator = await openOperatorClient({ clock }, { file: world.operatorFile })
  t.teardown(() => operator.close())
  const text = JSON.stringify({
    services: ['*'],
    deny: [{ name: 'no-admin', paths: ['/admin/*'] }],
  })
  t.match(await operator.call('Policies', 'PutPolicy', { name: 'admin', text }), { changed: true })
  await mesh.until('each worker of both hosts refuses by its name', async () => {
    const answers = await Promise.all(Array.from({ length: 32 }, () => call(admin)))
    return answers.every(({ status, body }) => {
      return status === 403 && body.includes('no-admin (mesh-policies/admin.json:1)')
    })
  })
  t.match(
    await meshctl('host', 'services', 'alpha', '--service', 'orders', '--service', 'web'),
    /orders/,
  )
})

const alone: CallTarget = { host: alpha.place.local, port: upstreams.solo }
const trustOn = async (host: typeof alpha): Promise<unknown> => {
  return (await host.admin.ask('status')).workers[0]?.trust
}

t.test('a banned host is cut off, and others lose no request to hosts that are not', async (t) => {
  const targets = [{ host: alpha.place.local, port: upstreams.orders }]
  t.match(await call(alone), { status: 200, host: 'beta' })
  const told = await meshctl('host', 'ban', 'beta', '--reason', 'its disk was copied')
  t.match(told, /host beta is now banned; 1 of 1 live hosts act on it/)
  await mesh.sees(alpha, 'orders', ['alpha'])
  t.match(await call(alone), { status: 503 })
  await underLoad(t, { mesh, targets, happens: (more) => more('alpha') })
  const { place } = beta
  await mesh.until('beta reaches nobody', async () => {
    return (await call({ host: place.local, port: upstreams.orders })).host !== 'alpha'
  })
  await mesh.until('and its agent knows why', async () => {
    const certificates = await beta.admin.ask('certificates')
    return certificates.some(({ code, problem }) => {
      return code === 'banned' && problem.includes('its disk was copied')
    })
  })
  t.match(await meshctl('host', 'list'), /beta +banned: its disk was copied/)
  const again = await world.meshctl('token', 'create', 'beta', '--service', '*')
  t.match(again.output, /banned/)
})

t.test('a store of before the rotation and the ban changes nothing backwards', async (t) => {
  const [root, trust] = [rootOf(), await trustOn(alpha)]
  // The banned one does not get it again once its certificate has ended.
  await whileStopped([alpha], () => {
    for (const file of [store, `${store}-wal`, `${store}-shm`]) rmSync(file, { force: true })
    copyFileSync(oldStore, store)
  })
  t.equal(rootOf(), root)
  t.match(await meshctl('host', 'list'), /beta +banned/)
  await mesh.until('the old records are overwritten', async () => {
    return /, in force on 1 of 1 /.test(await meshctl('ca', 'rotate', '--status'))
  })
  t.same(await trustOn(alpha), trust)
  await mesh.until('no host may do more again', async () => {
    return /alpha .*orders.*web/.test(await meshctl('host', 'list'))
  })
  t.match(await call(admin), { status: 403 }, 'the policy is in force')
  t.match(await call(alone), { status: 503 })
})

t.test('a host whose certificates ended while it was banned joins again with a token', async () => {
  await mesh.until('they have ended', async () => {
    const certificates = await beta.admin.ask('certificates')
    return certificates.every(({ notAfterMs }) => notAfterMs < Date.now())
  })
  await meshctl('host', 'unban', 'beta')
  writeFileSync(beta.path('join-token'), await meshctl('token', 'create', 'beta', '--service', '*'))
  await mesh.sees(alpha, 'orders', ['alpha', 'beta'])
  await mesh.until('it answers again', async () => (await call(alone)).host === 'beta')
})
