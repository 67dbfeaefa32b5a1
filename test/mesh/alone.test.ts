import { existsSync, mkdirSync, readdirSync, watch } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { AdminSocket } from '#cli/client/admin-socket.ts'
import {
  placeAgent,
  runAgent,
  type AgentPlace,
  type AgentProcess,
} from '#test/support/agent-process.ts'
import { shortDir } from '#test/support/short-dir.ts'
import { thisMachine } from '#test/support/this-machine.ts'
import { until as untilWithin } from '#test/support/until.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const until = (what: string, ask: () => boolean | Promise<boolean>): Promise<boolean> =>
  untilWithin(what, ask, { withinMs: 120_000 })

/** A host that has not joined any mesh: enough to see how its programs live and die. */
function place(t: Test): AgentPlace & { readonly run: string; readonly admin: AdminSocket } {
  const at = placeAgent(shortDir(t), { controller: '127.0.0.1:1' })
  const run = join(at.directory, 'run')
  mkdirSync(run)
  return { ...at, run, admin: new AdminSocket({ socketPath: join(run, 'agent.sock') }) }
}

function run(t: Test, role: string, at: AgentPlace): AgentProcess {
  const program = runAgent([role, '--config', at.configPath])
  t.teardown(async () => {
    program.child.kill('SIGKILL')
    await program.ended
  })
  return program
}

const sockets = (directory: string): readonly string[] =>
  readdirSync(directory, { encoding: 'utf8', recursive: true }).filter((name) =>
    name.endsWith('.sock'),
  )

async function workers(admin: AdminSocket): Promise<readonly number[]> {
  try {
    return (await admin.ask('status')).workers.map(({ pid }) => pid)
  } catch {
    return []
  }
}

t.test('a worker waits for its control process, however long that takes to come', async (t) => {
  const at = place(t)
  const worker = run(t, 'proxy', at)
  await until('it has noticed', () => worker.output().includes('control process away'))
  const control = run(t, 'control', at)
  await until('they have met', async () =>
    (await workers(at.admin)).includes(worker.child.pid ?? 0),
  )
  control.child.kill('SIGKILL')
  await control.ended
  run(t, 'control', at)
  await until('they have met again', async () =>
    (await workers(at.admin)).includes(worker.child.pid ?? 0),
  )
  t.equal(worker.child.exitCode, null)
  worker.child.kill('SIGTERM')
  t.same(await worker.ended, { code: 0, stderr: '' })
})

t.test('a supervisor starts both again when both were killed at once', async (t) => {
  const at = place(t)
  const supervisor = run(t, 'supervise', at)
  await until('both run', async () => (await workers(at.admin)).length === 1)
  const [worker = 0] = await workers(at.admin)
  const { pid } = await at.admin.ask('status')
  for (const one of [pid, worker]) process.kill(one, 'SIGKILL')
  await until('there are others', async () => {
    const [other] = await workers(at.admin)
    return other !== undefined && other !== worker
  })
  t.equal(supervisor.child.exitCode, null)
  const all = [...(await workers(at.admin)), (await at.admin.ask('status')).pid]
  supervisor.child.kill('SIGINT')
  t.same(await supervisor.ended, { code: 0, stderr: '' })
  t.notOk(all.some(thisMachine.isAlive))
  t.same(sockets(at.run), [])
})

t.test('a control process that is stopped while it starts leaves nothing behind', async (t) => {
  for (const name of ['agent.sock', 'workers', 'status']) {
    const at = place(t)
    const control = runAgent(['control', '--config', at.configPath])
    const watcher = watch(at.run, () => {
      if (existsSync(join(at.run, name))) control.child.kill('SIGTERM')
    })
    t.teardown(() => {
      watcher.close()
      control.child.kill('SIGKILL')
    })
    t.same(await control.ended, { code: 0, stderr: '' }, `stopped when ${name} appeared`)
    t.same(sockets(at.run), [])
  }
})
