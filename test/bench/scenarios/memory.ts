/** Owns the scenario of memory: one agent idle, what each idle connection adds, and each instance. */

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench } from '#test/bench/bench.ts'
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
  const at = mesh.local('orders')
  const pids = agentOf(mesh)
  await sleep(settleMs)
  const idle = memoryMiB(pids)
  const sockets: Socket[] = []
  for (let i = 0; i < connections; i++) {
    const socket = connect(at.port, at.address)
    await once(socket, 'connect')
    socket.write('GET / HTTP/1.1\r\nHost: orders.mesh\r\n\r\n')
    await once(socket, 'data')
    sockets.push(socket)
  }
  await sleep(3000)
  const perConnection = ((memoryMiB(pids) - idle) * 1024) / connections
  for (const socket of sockets) socket.destroy()
  return [
    row('PSS of control process and worker, idle, MiB', idle, 160),
    row(`KiB for each of ${connections} idle connections`, perConnection, 12),
    ...(await known(bench)),
  ]
}

async function known(bench: Bench): Promise<Result[]> {
  const toTell = await bench.meshToTell()
  if (toTell === null) return []
  const { mesh, tell } = toTell
  await tell(10)
  await sleep(3000)
  const pids = agentOf(mesh)
  const before = memoryMiB(pids)
  await tell(instances)
  await sleep(10_000)
  return [row(`MiB more with ${instances} instances known`, memoryMiB(pids) - before, 40)]
}

/** The control process and the worker of the service's host. */
function agentOf(mesh: BenchMesh): readonly number[] {
  return mesh.calleePids.filter((pid) => !commandOf(pid).includes(' supervise '))
}

function row(metric: string, ours: number, goal: number): Result {
  return {
    name: 'memory',
    metric,
    ours,
    peer: Number.NaN,
    peerName: '',
    ratio: Number.NaN,
    goal,
    ok: ours > 0 && ours <= goal,
  }
}
