/** Owns the scenario of memory: one agent idle, what each idle connection adds, and each instance. */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench } from '#test/bench/bench.ts'
import { IdleCallers } from '#test/bench/idle-callers.ts'
import { tellOfInstances } from '#test/bench/known-instances.ts'
import type { BenchMesh } from '#test/bench/mesh.ts'
import { commandOf, memoryMiB } from '#test/bench/program.ts'
import type { Result } from '#test/bench/result.ts'

/** So many that what all share, such as a young generation that has grown, does not count for each. */
const connections = 5000

const instances = 10_000
/** A control process that has just started has yet to load and to collect what it takes in its first minute. */
const settleMs = 20_000

/** PSS of the control process and one worker: idle, with idle callers, with many instances known. */
export async function memory(bench: Bench): Promise<Result[]> {
  const mesh = await bench.mesh()
  const pids = agentOf(mesh)
  await sleep(settleMs)
  const idle = memoryMiB(pids)
  const callers = await IdleCallers.open('http', mesh.local('orders'), connections)
  await sleep(3000)
  const perConnection = ((memoryMiB(pids) - idle) * 1024) / connections
  await callers.close()
  return [
    row(mesh, 'PSS of control process and worker, idle, MiB', idle, 160),
    row(mesh, `KiB for each of ${connections} idle connections`, perConnection, 12),
    ...(await known(bench)),
  ]
}

async function known(bench: Bench): Promise<Result[]> {
  const mesh = await bench.meshToTell()
  if (mesh === null) return []
  await tellOfInstances(mesh, 10)
  await sleep(3000)
  const pids = agentOf(mesh)
  const before = memoryMiB(pids)
  await tellOfInstances(mesh, instances)
  await sleep(10_000)
  const more = memoryMiB(pids) - before
  return [row(mesh, `MiB more with ${instances} instances known`, more, 40)]
}

/** The control process and the worker of the service's host. */
function agentOf(mesh: BenchMesh): readonly number[] {
  return mesh.calleePids.filter((pid) => !commandOf(pid).includes(' supervise '))
}

function row(mesh: BenchMesh, metric: string, ours: number, goal: number): Result {
  return {
    name: 'memory',
    metric,
    ours,
    peer: Number.NaN,
    peerName: '',
    ratio: Number.NaN,
    goal,
    ok: ours > 0 && ours <= goal,
    capture: mesh.captures,
  }
}
