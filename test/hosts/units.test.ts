/**
 * Services of one host that run as units of systemd under one user: each calls as itself, known by its
 * control group, also after the unit has started again.
 */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'
import { UnitGroups } from '#test/support/control-groups.ts'
import { curlAs, userCommand } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(300_000)

const run = promisify(execFile)
/** The user of both units, and of programs that are of neither. */
const user = 3010

t.test('units under one user call each as itself, also when they start again', async (t) => {
  const skip = lacks('cgroups', 'nft', 'curl', 'setpriv')
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const mesh = await MeshWorld.raise(t, { places: 'namespaces' })
  const { alpha, beta } = mesh
  const groups = new UnitGroups(t)
  const [jobs, reports] = [`jobs-${process.pid}.service`, `reports-${process.pid}.service`]
  mesh.serve(beta, 'http', 'orders', 8080)
  beta.dropManifest('orders', { port: 8080 })
  groups.start(jobs)
  alpha.dropManifest('jobs', { run: { unit: jobs } })
  alpha.dropManifest('reports', { run: { unit: reports } })
  await mesh.sees(alpha, 'orders', ['beta'])
  const [virtual = ''] =
    (await alpha.admin.ask('services')).find(({ name }) => name === 'orders')?.addresses ?? []
  const url = `http://${virtual}/`

  /** Whose a call of a unit is, as its callee sees it. */
  const callerOf = async (unit: string): Promise<string> => {
    const words = userCommand(user, 'curl', '-sS', '--max-time', '10', url)
    const [first = '', ...rest] = alpha.place.enter(groups.command(unit, ...words))
    return /spiffe:\/\/mesh\.internal\/([a-z/-]+)"/.exec((await run(first, rest)).stdout)?.[1] ?? ''
  }
  const becomes = (unit: string, caller: string) =>
    mesh.until(`${unit} is known as ${caller}`, async () => (await callerOf(unit)) === caller)

  await becomes(jobs, 'service/jobs')
  groups.start(reports)
  await becomes(reports, 'service/reports')
  t.equal(await callerOf(jobs), 'service/jobs')
  t.match(await curlAs(alpha, user, url), 'internal/host/alpha"', 'their user alone is nobody')
  const { capture } = await alpha.admin.ask('status')
  t.match(
    capture.callers.find(({ service }) => service === 'jobs'),
    { unit: jobs, problem: '' },
  )
  const explain = (unit: string) =>
    alpha.admin.explainCapture(new URLSearchParams({ to: `${virtual}:80`, user: `${user}`, unit }))
  t.match(await explain(jobs), { kind: 'captured', service: 'orders', caller: 'jobs' })
  t.match(await explain('nobody.service'), { kind: 'bad-question', problem: /no unit nobody/ })

  // A unit that starts again is another group to the kernel.
  await groups.end(jobs)
  groups.start(jobs)
  await becomes(jobs, 'service/jobs')
  t.equal(await callerOf(reports), 'service/reports', 'the other one never noticed')
  await groups.end(jobs)
  await mesh.until('a unit that has ended is no caller', async () => {
    const words = ['nft', 'list', 'map', 'inet', 'hostmesh', 'unit_callers']
    const [first = '', ...rest] = alpha.place.enter(words)
    const { stdout } = await run(first, rest)
    return stdout.includes(reports) && !stdout.includes(jobs) && !/\{ \d+ :|, \d+ :/.test(stdout)
  })
  t.equal((await alpha.admin.ask('status')).capture.kind, 'on')
})
