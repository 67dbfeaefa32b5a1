/**
 * A host whose services may reach only what the mesh knows: everything else is refused to them at once,
 * counted and told, and to nobody else.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { asUser, curlAs, userCommand } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(300_000)

const [orders, web, stranger] = [3001, 3002, 4000]
const [known, unknown, excluded] = [8080, 9999, 9998]
const service = join(import.meta.dirname, '../support/service-program.ts')

t.test('a confined service reaches what the mesh knows, and nothing else', async (t) => {
  const skip = lacks('netns', 'nft', 'curl', 'setpriv')
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const mesh = await MeshWorld.raise(t, {
    places: 'namespaces',
    agentConfig: { egress: 'registry-only', captureExclude: { ports: [excluded] } },
  })
  const { alpha, beta } = mesh
  const real = beta.place.address
  for (const port of [known, unknown, excluded]) {
    const program = [process.execPath, service, 'http', '0.0.0.0', String(port), `port-${port}`]
    beta.start(`http-${port}`, userCommand(orders, ...program))
  }
  beta.dropManifest('orders', {
    port: known,
    run: { user: `${orders}` },
    intercept: [`${real}:${known}`],
  })
  alpha.dropManifest('web', { run: { user: `${web}` } })
  await mesh.sees(alpha, 'orders', ['beta'])
  const [virtual = ''] =
    (await alpha.admin.ask('services')).find(({ name }) => name === 'orders')?.addresses ?? []
  const at = (port: number): string => `http://${real}:${port}/`
  const own = `http://${alpha.place.address}:15020`
  const asWeb = /"x-mesh-source":"spiffe:\/\/mesh\.internal\/service\/web"/
  const refused = /failed 7:/
  await mesh.until('web is known, and led into the mesh', async () =>
    asWeb.test(await curlAs(alpha, web, at(known))),
  )
  t.match(await curlAs(alpha, web, `http://${virtual}/`), asWeb)

  t.match(await curlAs(alpha, web, at(unknown)), refused)
  const datagram = `const s = require('node:dgram').createSocket('udp4')
    s.on('error', (e) => { console.log(e.code); s.close() })
    s.connect(443, '${real}', () => s.send('x'))`
  t.match(await asUser(alpha, web, process.execPath, '-e', datagram), /EPERM|ECONNREFUSED/)
  t.match(await curlAs(alpha, web, at(excluded)), `port-${excluded}`, 'what is left alone')
  t.match(await curlAs(alpha, stranger, at(unknown)), `port-${unknown}`, 'who is no service')
  t.match(await curlAs(alpha, 0, at(unknown)), `port-${unknown}`, 'root')
  t.match(await curlAs(alpha, web, `${own}/readyz`), 'ready', 'its own host')

  const explain = (port: number, user: number) =>
    alpha.admin.explainCapture(new URLSearchParams({ to: `${real}:${port}`, user: `${user}` }))
  t.match(await explain(unknown, web), { kind: 'refused', why: /only what the mesh knows/ })
  t.match(await explain(excluded, web), { kind: 'direct' })
  t.match(await explain(unknown, stranger), { kind: 'direct' })
  t.equal((await alpha.admin.ask('status')).capture.egress, 'registry-only')
  const counted = /^mesh_egress_refused_total\{service="web"\} [2-9]$/m
  await mesh.until('it is counted', async () =>
    counted.test(await curlAs(alpha, 0, `${own}/metrics`)),
  )
  await mesh.until('the log tells', () =>
    readFileSync(alpha.path('agent.log'), 'utf8').includes('connections out of the mesh refused'),
  )

  const bypass = { service: 'orders', forMs: 3_600_000, by: 'ann', reason: 'a test' }
  await alpha.admin.tell('bypass', bypass)
  const around = await curlAs(alpha, web, at(known))
  t.match(around, `port-${known}`, 'what bypasses the mesh is known to it')
  t.notMatch(around, 'x-mesh-source')
  await alpha.admin.tell('bypass', { ...bypass, forMs: 0, reason: '' })

  const pids = await mesh.pids(alpha)
  const supervisor = alpha.agent?.pid ?? 0
  process.kill(supervisor, 'SIGSTOP')
  t.teardown(() => process.kill(supervisor, 'SIGCONT'))
  for (const pid of [pids.control, pids.worker]) process.kill(pid, 'SIGKILL')
  await mesh.until('known addresses are reached without the agent', async () => {
    const said = await curlAs(alpha, web, at(known))
    return said.includes(`port-${known}`) && !said.includes('x-mesh-source')
  })
  t.match(await curlAs(alpha, web, at(unknown)), refused, 'nobody is let out by a crash')
})
