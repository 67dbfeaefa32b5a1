/**
 * Owns the scenario of idle WebSockets beside busy connections: through both agents, nothing may
 * fail, and what each idle one costs is reported.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench } from '#test/bench/bench.ts'
import { IdleCallers } from '#test/bench/idle-callers.ts'
import { commandOf, memoryMiB } from '#test/bench/program.ts'
import type { Result } from '#test/bench/result.ts'
import { wrk } from '#test/bench/wrk.ts'

const idle = 1000
const busy = 64

/** 1,000 idle WebSockets and 64 busy HTTP connections together. */
export async function websockets(bench: Bench): Promise<Result[]> {
  const mesh = await bench.mesh()
  const sockets = await mesh.add('sockets', 'websocket')
  mesh.pin()
  const pids = mesh.pids.filter((pid) => !commandOf(pid).includes(' supervise '))
  const way = mesh.cross('orders')
  const load = { way, connections: busy, seconds: bench.settings.seconds }
  await wrk(load)
  await sleep(3000)
  const before = memoryMiB(pids)
  const callers = await IdleCallers.open('websocket', sockets, idle)
  await sleep(3000)
  const perSocket = ((memoryMiB(pids) - before) * 1024) / idle
  const { errors, requests } = await wrk(load)
  const silent = await callers.silent()
  await callers.close()
  const { captures } = mesh
  return [
    row(captures, `failed of ${requests} requests of ${busy} busy connections`, errors, 0),
    row(captures, `failed of ${idle} WebSockets idle meanwhile`, silent, 0),
    row(captures, 'KiB for each idle WebSocket, both agents together', perSocket, null),
  ]
}

function row(capture: boolean, metric: string, ours: number, goal: number | null): Result {
  return {
    name: 'websockets',
    metric,
    ours,
    peer: Number.NaN,
    peerName: '',
    ratio: Number.NaN,
    goal,
    ok: goal === null || ours <= goal,
    capture,
  }
}
