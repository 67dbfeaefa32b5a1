import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { call } from '#test/support/callers.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const mesh = await MeshWorld.raise(t, { agentConfig: { accessLog: 'off' } })
const { alpha } = mesh
mesh.serve(alpha, 'http', 'orders', 8080)
alpha.dropManifest('orders', { port: 8080, address: alpha.place.local })
alpha.dropManifest('web', { upstreams: { orders: 9001 } })
await mesh.sees(alpha, 'orders', ['alpha'])
const orders = { host: alpha.place.local, port: 9001 }

const path = alpha.path('agent.json')
const good = JSON.parse(readFileSync(path, 'utf8')) as Readonly<Record<string, unknown>>
function write(more: Readonly<Record<string, unknown>>): void {
  writeFileSync(path, JSON.stringify({ ...good, ...more }))
}

t.test('reload applies what counts at once, and says what the rest takes', async (t) => {
  await mesh.until('orders answers', async () => (await call(orders)).status === 200)
  t.same(alpha.accessLines(50), [])
  write({ accessLog: 'on', maxConnections: 1000, zone: 'z9' })
  const report = await alpha.admin.tell('reload', {})
  t.same(report.applied, ['accessLog'])
  t.match(report.waiting, [
    { key: 'zone', needs: /systemctl restart mesh-agent/ },
    { key: 'maxConnections', needs: /meshctl upgrade/ },
  ])
  await mesh.until('workers log calls', async () => {
    await call(orders)
    return alpha.accessLines(50).length > 0
  })
})

t.test('reload of a wrong config names every fault and changes nothing', async (t) => {
  const before = await alpha.admin.ask('status')
  write({ accessLog: 'sometimes', drainMs: -1 })
  const refused = alpha.admin.tell('reload', {})
  await t.rejects(refused, { code: 'agent-refused', message: /drainMs[^]*accessLog/ })
  writeFileSync(path, '{ "host": ')
  await t.rejects(alpha.admin.tell('reload', {}), { code: 'agent-refused', message: /agent\.json/ })
  const after = await alpha.admin.ask('status')
  t.equal(after.pid, before.pid)
  t.ok(after.ready)
  t.equal((await call(orders)).status, 200)
})

t.test('SIGHUP reloads too', async () => {
  const lines = alpha.accessLines(500).length
  write({ accessLog: 'off', log: { level: 'warn' } })
  const { pid } = await alpha.admin.ask('status')
  process.kill(pid, 'SIGHUP')
  await mesh.until('workers log no calls', async () => {
    const count = alpha.accessLines(500).length
    await call(orders)
    return alpha.accessLines(500).length === count && count >= lines
  })
})
