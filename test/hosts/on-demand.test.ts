/**
 * A host that follows only what it uses, under capture and with the embedded store: a program that knows
 * nothing of a mesh asks DNS for a service nobody here has used, and calls it.
 */

import { join } from 'node:path'
import t from 'tap'
import { asUser, curlAs } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(400_000)

const users = { web: 3001, orders: 3003 } as const
const service = join(import.meta.dirname, '../support/service-program.ts')

t.test('a name that is asked for is discovered, captured and called', async (t) => {
  const skip = lacks('netns', 'nft', 'curl', 'setpriv', 'dig')
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const mesh = await MeshWorld.raise(t, { places: 'namespaces', agentConfig: { wholeMesh: 0 } })
  const { alpha, beta } = mesh
  const words = ['setpriv', `--reuid=${users.orders}`, '--clear-groups', process.execPath] as const
  for (const [index, name] of ['orders', 'carts'].entries()) {
    const port = 8080 + index
    beta.start(name, [...words, service, 'http', beta.place.local, String(port), beta.name])
    // Two services may not be of one user.
    const run = name === 'orders' ? { run: { user: String(users.orders) } } : {}
    beta.dropManifest(name, { port, address: beta.place.local, ...run })
  }
  alpha.dropManifest('web', { run: { user: String(users.web) } })
  await mesh.until('beta has published both', async () => {
    const manifests = await beta.admin.ask('manifests')
    return manifests.length === 2 && manifests.every(({ published }) => published)
  })
  // The next session counts them.
  process.kill((await mesh.pids(alpha)).control, 'SIGKILL')
  await mesh.until('alpha follows what it uses, and captures', async () => {
    const { snapshot, capture, store, ready } = await alpha.admin.ask('status')
    const isWeb = capture.callers.some((one) => one.service === 'web' && one.user === users.web)
    const isOnDemand = snapshot.of === 'services-in-use' && store.kind === 'up'
    return ready && isOnDemand && capture.kind === 'on' && isWeb
  })
  t.same(await alpha.admin.ask('services'), [])

  const dig = (name: string): Promise<string> =>
    asUser(alpha, users.web, 'dig', '@127.0.0.1', '+short', name)
  let address = ''
  // A crowded machine may be late with the first answer.
  await mesh.until('orders has an address', async () => {
    address = (await dig('orders.mesh')).trim()
    return address !== ''
  })
  t.match(address, /^240\.240\.\d+\.\d+$/)
  let body = ''
  await mesh.until('orders is called as web', async () => {
    body = await curlAs(alpha, users.web, 'http://orders.mesh/')
    return body.includes('"host":"beta"')
  })
  t.match(body, '"x-mesh-source":"spiffe://mesh.internal/service/web"')
  t.equal(await dig('nobody.mesh'), '')
  const known = await alpha.admin.ask('services')
  t.same(
    known.map(({ name }) => name),
    ['orders'],
    'nobody has asked for carts',
  )
})
