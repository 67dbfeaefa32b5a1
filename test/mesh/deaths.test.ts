import { existsSync, readdirSync } from 'node:fs'
import t, { type Test } from 'tap'
import { ports } from '#cli/demo/demo-host.ts'
import type { CallTarget } from '#test/support/callers.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { thisMachine } from '#test/support/this-machine.ts'
import { underLoad, type More } from '#test/support/under-load.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const mesh = await MeshWorld.raise(t)
const { alpha, beta } = mesh
const upstreams = { orders: 9001, solo: 9002 }

for (const host of [alpha, beta]) {
  host.dropManifest('orders', { port: 8080, address: host.place.local })
  host.dropManifest('web', { upstreams })
}
let doomed = mesh.serve(beta, 'http', 'orders', 8080)
mesh.serve(alpha, 'http', 'orders', 8080)
mesh.serve(alpha, 'http', 'solo', 8081)
alpha.dropManifest('solo', { port: 8081, address: alpha.place.local })
// Told once that all is well with it, and not again.
const pushed = { service: 'pushed', outcome: 'pass', detail: 'said so once' } as const
const health = { kind: 'push', ttlMs: 3_600_000 }
mesh.serve(beta, 'http', 'pushed', 8083)
beta.dropManifest('pushed', { port: 8083, address: beta.place.local, health })
await mesh.until('beta takes what is brought', async () => {
  await beta.admin.tell('health', pushed)
  return true
})
await mesh.sees(alpha, 'pushed', ['beta'])
for (const host of [alpha, beta]) {
  await mesh.sees(host, 'orders', ['alpha', 'beta'])
  await mesh.sees(host, 'solo', ['alpha'])
}

/** Everything a program on `host` might do: read and write, kept alive and not, here and there. */
function targets(host: typeof alpha): readonly CallTarget[] {
  const { local } = host.place
  const at = (port: number, more: Partial<CallTarget> = {}) => ({ host: local, port, ...more })
  return [
    at(upstreams.orders),
    at(upstreams.orders, { fresh: true }),
    at(upstreams.solo),
    at(ports.forwardProxy, { path: 'http://orders.mesh/' }),
    at(upstreams.orders, { method: 'POST' }),
    at(upstreams.solo, { method: 'POST', fresh: true }),
  ]
}
const reads = (host: typeof alpha): readonly CallTarget[] =>
  targets(host).filter(({ method }) => method !== 'POST')

const under = (
  t: Test,
  calls: readonly CallTarget[],
  happens: (more: More) => Promise<void>,
): Promise<void> => underLoad(t, { mesh, targets: calls, happens })

t.test('kill -9 of an instance fails no request that may be repeated', async (t) => {
  await under(t, reads(alpha), async (more) => {
    await more('beta')
    doomed.kill()
    await doomed.ended
    await more('alpha')
    await mesh.sees(alpha, 'orders', ['alpha'])
    doomed = mesh.serve(beta, 'http', 'orders', 8080)
    await mesh.sees(alpha, 'orders', ['alpha', 'beta'])
    await more('beta')
  })
})

t.test('kill -9 of the control processes fails no request at all', async (t) => {
  await under(t, [...targets(alpha), ...targets(beta)], async (more) => {
    for (const host of [alpha, beta]) {
      const { control, worker } = await mesh.pids(host)
      process.kill(control, 'SIGKILL')
      await more()
      await mesh.ready(host)
      const after = await mesh.pids(host)
      t.not(after.control, control)
      t.equal(after.worker, worker, 'the worker goes on')
    }
  })
})

t.test('SIGTERM of a control process leaves what it published where it is', async (t) => {
  await under(t, [...targets(alpha), ...targets(beta)], async (more) => {
    const { control } = await mesh.pids(beta)
    const watching = watchService(alpha, 'orders', 'beta')
    process.kill(control, 'SIGTERM')
    await mesh.until(
      'another one is there',
      async () => (await mesh.pids(beta)).control !== control,
    )
    await mesh.ready(beta)
    await more('beta')
    t.equal(await watching(), true, 'alpha saw beta’s instance all the time')
    const all = await beta.admin.ask('manifests')
    const found = all.find(({ service }) => service === 'pushed')
    t.match(found, { health: 'passing' }, 'what was brought once still counts')
  })
})

t.test('kill -9 of a worker costs its own connections, and another one serves', async (t) => {
  await under(t, reads(alpha), async (more) => {
    const { control, worker } = await mesh.pids(beta)
    process.kill(worker, 'SIGKILL')
    await mesh.until('another one serves', async () => {
      const after = await mesh.pids(beta)
      return after.worker !== worker && after.worker !== 0
    })
    await mesh.ready(beta)
    await more('beta')
    t.equal((await mesh.pids(beta)).control, control, 'the control process goes on')
  })
})

t.test('SIGTERM of a whole agent fails no call of another host', async (t) => {
  const { control, worker } = await mesh.pids(beta)
  await under(t, targets(alpha), async (more) => {
    await more('beta')
    const ending = await beta.endAgent('SIGTERM')
    t.same(ending, { code: 0, signal: null })
    await mesh.sees(alpha, 'orders', ['alpha'])
    await more('alpha')
  })
  for (const pid of [control, worker]) t.notOk(thisMachine.isAlive(pid))
  for (const name of ['agent.sock', 'workers/control.sock']) {
    t.notOk(existsSync(beta.path('run', name)))
  }
  t.same(readdirSync(beta.path('run', 'status')), [], 'nothing is in force any more')
  await under(t, targets(alpha), async (more) => {
    beta.startAgent()
    await mesh.ready(beta)
    await more('beta')
  })
})

t.test('kill -9 of a supervisor ends its programs, and withdraws what they offered', async (t) => {
  const { control, worker } = await mesh.pids(beta)
  await under(t, reads(alpha), async (more) => {
    await more('beta')
    await beta.endAgent('SIGKILL')
    await mesh.sees(alpha, 'orders', ['alpha'])
    await mesh.until('both have ended', () => ![control, worker].some(thisMachine.isAlive))
    await more('alpha')
  })
})

/** Asks again and again whether an instance is known; answers how to hear whether it always was. */
function watchService(host: typeof alpha, service: string, on: string): () => Promise<boolean> {
  const enough = new AbortController()
  const watch = async (always: boolean): Promise<boolean> => {
    if (enough.signal.aborted) return always
    const all = await host.admin.ask('services')
    const found = all.find(({ name }) => name === service)?.instances
    return watch(always && found?.some((instance) => instance.host === on) === true)
  }
  const watching = watch(true)
  return () => {
    enough.abort()
    return watching
  }
}
