import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { ports } from '#cli/demo/demo-host.ts'
import type { LoadCount, Target } from '#cli/demo/load.ts'
import { lostAt } from '#test/support/far-hosts.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'
import { root } from '#test/support/sources.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(240_000)

/** How long a request of the load may take, and a word about it. */
const loadPatienceMs = 5200

t.test('a host that is cut off is out of rotation, and back when it returns', async (t) => {
  const skip = lacks('netns')
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const mesh = await MeshWorld.raise(t, { places: 'namespaces' })
  const { alpha, beta } = mesh
  for (const host of [alpha, beta]) {
    mesh.serve(host, 'http', 'orders', 8080)
    host.dropManifest('orders', { port: 8080, address: host.place.local })
  }
  await mesh.sees(alpha, 'orders', ['alpha', 'beta'])

  let count: LoadCount = { requests: 0, failed: 0, byHost: {}, byTarget: {}, failures: [] }
  const target: Target = {
    name: 'proxy',
    host: alpha.place.local,
    port: ports.forwardProxy,
    path: 'http://orders.mesh/',
    authority: 'orders.mesh',
    connections: 4,
  }
  const words = [join(root, 'cli/demo/main.ts'), 'load', JSON.stringify([target])]
  alpha.start('load', [process.execPath, ...words], (line) => {
    count = JSON.parse(line) as LoadCount
  })
  const more = async (host: string): Promise<void> => {
    const enough = (count.byHost[host] ?? 0) + 100
    await mesh.until(`callers get on at ${host}`, () => (count.byHost[host] ?? 0) >= enough)
  }
  const link = (state: 'up' | 'down'): void => {
    const [command = '', ...rest] = beta.place.enter(['ip', 'link', 'set', 'eth0', state])
    execFileSync(command, rest)
  }
  await more('alpha')
  await more('beta')
  t.equal(count.failed, 0)
  // On a crowded machine a host may be thought lost that is not.
  await mesh.until('alpha calls beta', () => lostAt(alpha, beta) === null)

  link('down')
  const cutAt = performance.now()
  await mesh.until('alpha has taken beta out', () => lostAt(alpha, beta) !== null)
  const tookMs = Math.round(performance.now() - cutAt)
  // The goal is two seconds; a test gives three times as long.
  t.ok(tookMs < 6000, `out of rotation after ${tookMs} ms`)
  // What was under way to beta then ends with the load's own patience, or before.
  await mesh.until('it has ended', () => performance.now() - cutAt > tookMs + loadPatienceMs)
  await more('alpha')
  const failed = count.failed
  const before = count.byHost['beta'] ?? 0
  await more('alpha')
  await more('alpha')
  t.equal(count.failed, failed, 'once it is out, no request fails')
  t.equal(count.byHost['beta'], before, 'nor goes there')

  link('up')
  await mesh.until('alpha has heard beta', () => lostAt(alpha, beta) === null)
  await mesh.sees(alpha, 'orders', ['alpha', 'beta'])
  await more('beta')
  t.equal(count.failed, failed, 'nor when it comes back')
})
