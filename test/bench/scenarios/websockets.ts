/**
 * Owns the scenario of idle WebSockets beside busy connections: through both agents, nothing may
 * fail, and what each idle one costs is reported.
 */

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { cores, type Bench } from '#test/bench/bench.ts'
import { commandOf, memoryMiB } from '#test/bench/program.ts'
import type { Result } from '#test/bench/result.ts'
import { wrk } from '#test/bench/wrk.ts'

const idle = 1000
const busy = 64
const listenerPort = 9303
/** Longest wait for an echo; past it the message has failed. */
const echoMs = 10_000

/** 1,000 idle WebSockets and 64 busy HTTP connections together. */
export async function websockets(bench: Bench): Promise<Result[]> {
  const mesh = await bench.mesh()
  const at = await mesh.add('sockets', await bench.service('websocket'), listenerPort)
  mesh.pin()
  const orders = mesh.cross('orders')
  const pids = mesh.pids.filter((pid) => !commandOf(pid).includes(' supervise '))
  const url = `http://${orders.address}:${orders.port}/`
  const load = { url, connections: busy, seconds: bench.settings.seconds, core: cores.load }
  await wrk(load)
  await sleep(3000)
  const before = memoryMiB(pids)
  const sockets: WebSocket[] = []
  for (let i = 0; i < idle; i++) {
    const socket = new WebSocket(`ws://${at.address}:${at.port}/`)
    await once(socket, 'open')
    sockets.push(socket)
  }
  await sleep(3000)
  const perSocket = ((memoryMiB(pids) - before) * 1024) / idle
  const { errors, requests } = await wrk(load)
  const silent = (await Promise.all(sockets.map(answers))).filter((answered) => !answered).length
  for (const socket of sockets) socket.terminate()
  return [
    row(`failed of ${requests} requests of ${busy} busy connections`, errors, 0),
    row(`failed of ${idle} WebSockets idle meanwhile`, silent, 0),
    row('KiB for each idle WebSocket, both agents together', perSocket, null),
  ]
}

/** Whether a WebSocket still echoes. */
async function answers(socket: WebSocket): Promise<boolean> {
  if (socket.readyState !== WebSocket.OPEN) return false
  const echo = once(socket, 'message', { signal: AbortSignal.timeout(echoMs) })
  socket.send('still here')
  return await echo.then(
    ([data]) => String(data) === 'still here',
    () => false,
  )
}

function row(metric: string, ours: number, goal: number | null): Result {
  return {
    name: 'websockets',
    metric,
    ours,
    peer: Number.NaN,
    peerName: '',
    ratio: Number.NaN,
    goal,
    ok: goal === null || ours <= goal,
  }
}
