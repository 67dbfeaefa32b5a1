/**
 * Agents that are not root: with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE and nothing else they capture,
 * resolve names and tell callers apart, and their guard lets go when they are killed.
 */

import { chmodSync, chownSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { asUser, curlAs, userCommand } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(300_000)

const [agent, orders, web, stranger] = [3900, 3001, 3002, 4000]
const service = join(import.meta.dirname, '../support/service-program.ts')
const rights = '-all,+net_admin,+net_bind_service'
const asAgent = [
  'setpriv',
  `--reuid=${agent}`,
  `--regid=${agent}`,
  '--clear-groups',
  '--no-new-privs',
  ...['inh-caps', 'ambient-caps', 'bounding-set'].map((set) => `--${set}=${rights}`),
]

t.test('an agent that is not root captures all the same', async (t) => {
  const skip = lacks('netns', 'nft', 'curl', 'setpriv', 'dig')
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const mesh = await MeshWorld.raise(t, {
    places: 'namespaces',
    agentIn: asAgent,
    beforeAgents: async ({ world }) => {
      chmodSync(world.directory, 0o755)
      for (const host of world.hosts) {
        // Written whole before the agent starts, and kept by whoever owns it.
        writeFileSync(host.path('join-token'), '', { mode: 0o600 })
        for (const path of ['state', 'run', 'join-token']) chownSync(host.path(path), agent, agent)
      }
    },
  })
  const { alpha, beta } = mesh
  const words = [service, 'http', '127.0.0.1', '8080', 'beta'] as const
  beta.start('orders', userCommand(orders, process.execPath, ...words))
  const real = `${beta.place.address}:9080`
  beta.dropManifest('orders', {
    port: 8080,
    run: { user: `${orders}` },
    intercept: [real],
    allow: ['web', 'host/alpha'],
  })
  alpha.dropManifest('web', { run: { user: `${web}` } })
  await mesh.sees(alpha, 'orders', ['beta'])
  const calledBy = (id: string): RegExp =>
    new RegExp(`"x-mesh-source":"spiffe://mesh.internal/${id}"`)
  await mesh.until('web calls as itself', async () =>
    calledBy('service/web').test(await curlAs(alpha, web, `http://${real}/`)),
  )
  t.match(await curlAs(alpha, stranger, 'http://orders.mesh/'), calledBy('host/alpha'))
  t.match(await curlAs(alpha, 0, `http://${real}/`), calledBy('host/alpha'), 'root is no agent')
  const around = await curlAs(beta, stranger, 'http://127.0.0.1:8080/')
  t.match(around, /policy-denied/, 'the lock of the service leads others into the mesh')
  t.match(
    await asUser(alpha, stranger, 'dig', '+short', '@127.0.0.1', 'orders.mesh'),
    /^240\.240\./,
  )

  const { control, worker } = await mesh.pids(alpha)
  const supervisor = alpha.agent?.pid ?? 0
  for (const pid of [supervisor, control, worker]) {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1')
    t.match(status, new RegExp(`^Uid:\\t${agent}\\t`, 'm'))
    // CAP_NET_BIND_SERVICE and CAP_NET_ADMIN, capabilities(7).
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      t.match(status, new RegExp(`^${set}:\\t0*1400$`, 'm'))
  }
  const checks = await alpha.admin.ask('checks')
  t.match(
    checks.filter(({ name }) => name === 'capture'),
    [{ verdict: 'ok' }],
  )

  process.kill(supervisor, 'SIGSTOP')
  t.teardown(() => process.kill(supervisor, 'SIGCONT'))
  for (const pid of [control, worker]) process.kill(pid, 'SIGKILL')
  const nft = (): Promise<string> => asUser(alpha, 0, 'nft', 'list', 'ruleset')
  await mesh.until('the guard, not root either, has let go', async () => (await nft()) === '')
  const routes = await asUser(alpha, 0, 'ip', 'route', 'show', 'table', 'local')
  t.notMatch(routes, '240.240')
})
