import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { ports } from '#cli/demo/demo-host.ts'
import { call, type CallTarget } from '#test/support/callers.ts'
import { closed } from '#test/support/closed.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { thisMachine } from '#test/support/this-machine.ts'
import { underLoad } from '#test/support/under-load.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const mesh = await MeshWorld.raise(t, { agentConfig: { workers: 2, accessLog: 'on' } })
const { alpha, beta } = mesh
beta.dropManifest('orders', { port: 8080, address: beta.place.local })
mesh.serve(beta, 'http', 'orders', 8080)
alpha.dropManifest('web', { upstreams: { orders: 9001 } })
await mesh.sees(alpha, 'orders', ['beta'])
const orders: CallTarget = { host: alpha.place.local, port: 9001 }
await mesh.until('every worker listens', async () => {
  const { workers } = await alpha.admin.ask('status')
  const open = workers.flatMap(({ listeners }) => listeners).filter(({ problem }) => !problem)
  return workers.length === 2 && open.length === 4
})
await bothWorkersOf(beta)

/** A kept connection, and how to ask through it once more. */
async function keep(): Promise<{ readonly socket: Socket; ask: () => Promise<boolean> }> {
  const socket = connect(orders.port, orders.host).on('error', () => {})
  await once(socket, 'connect')
  const ask = async (): Promise<boolean> => {
    if (socket.destroyed) return false
    socket.write('GET / HTTP/1.1\r\nHost: orders.mesh\r\n\r\n')
    const answer = await Promise.race([
      once(socket, 'data').then(([chunk]) => String(chunk)),
      closed(socket).then(() => ''),
    ])
    return answer.startsWith('HTTP/1.1 200')
  }
  return { socket, ask }
}

t.test('every worker serves, and metrics add their counts up', async (t) => {
  for (let i = 0; i < 40; i++) t.equal((await call({ ...orders })).status, 200)
  for (const [host, direction] of [
    [alpha, 'outbound'],
    [beta, 'inbound'],
  ] as const) {
    await mesh.until(`${host.name} has told of every call`, () => {
      const lines = host.accessLines(500).filter((line) => line.direction === direction)
      // Tunnels are few, so that all of them may have come to one worker.
      const workers = new Set(lines.map(({ worker }) => worker)).size
      return lines.length >= 40 && (workers === 2 || direction === 'inbound')
    })
    const target = { host: host.place.address, port: ports.metrics, path: '/metrics' }
    const sum = (page: string): number =>
      page
        .split('\n')
        .filter((line) => line.startsWith('mesh_requests_total{') && line.includes(direction))
        .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0)
    await mesh.until('all are counted', async () => sum((await call(target)).body) >= 40)
    const { body } = await call(target)
    t.equal(sum(body), 40)
    t.match(body, /^mesh_workers_connected 2$/m)
    t.match(body, /^mesh_worker_crashes_total 0$/m)
  }
})

t.test('kill -9 of a worker cuts its own connections alone; another takes its place', async (t) => {
  const kept = await Promise.all(Array.from({ length: 24 }, () => keep()))
  for (const { ask } of kept) t.ok(await ask())
  await bothWorkersOf(alpha)
  const [doomed = 0, other = 0] = await mesh.workerPids(alpha)
  const control = (await alpha.admin.ask('status')).pid
  process.kill(doomed, 'SIGKILL')
  // What comes while the kernel still takes it apart may be its own.
  await mesh.until('it is gone', () => !thisMachine.isAlive(doomed))
  await mesh.until('its connections are cut', () => kept.some(({ socket }) => socket.destroyed))
  await underLoad(t, {
    mesh,
    // New connections go to the worker that lives while the dead one is away.
    targets: [{ ...orders, fresh: true }],
    happens: async () => {
      await mesh.until('another worker has taken its place', async () => {
        const pids = await mesh.workerPids(alpha)
        return pids.length === 2 && pids[1] === other && pids[0] !== doomed
      })
    },
  })
  const answers = await Promise.all(kept.map(({ ask }) => ask()))
  const living = answers.filter((answered) => answered).length
  t.ok(living > 0 && living < kept.length, `${living} of ${kept.length} connections live on`)
  for (const { socket } of kept) socket.destroy()
  const status = await alpha.admin.ask('status')
  t.equal(status.pid, control)
  t.match(
    status.workers.map(({ crashes }) => crashes),
    [1, 0],
  )
})

/** Waits until both workers of a host are there. */
function bothWorkersOf(host: typeof alpha): Promise<void> {
  return mesh.until('both workers are there', async () => {
    return (await mesh.workerPids(host)).length === 2
  })
}

t.test('kill -9 of a worker: its host serves again within a second', async (t) => {
  await bothWorkersOf(beta)
  const [doomed = 0] = await mesh.workerPids(beta)
  process.kill(doomed, 'SIGKILL')
  const killedAt = performance.now()
  await mesh.until('beta serves again', async () => (await call(orders)).status === 200)
  // The goal is a second; a test gives three.
  const tookMs = performance.now() - killedAt
  t.ok(tookMs < 3000, `serving again after ${Math.round(tookMs)} ms`)
  await mesh.until('another worker has taken its place', async () => {
    const pids = await mesh.workerPids(beta)
    return pids.length === 2 && !pids.includes(doomed)
  })
})

t.test('kill -9 of all workers: others take their places, and are found', async () => {
  const before = await mesh.workerPids(beta)
  for (const pid of before) process.kill(pid, 'SIGKILL')
  await mesh.until('beta serves again', async () => (await call(orders)).status === 200)
  await mesh.until('both are back, and others', async () => {
    const after = await mesh.workerPids(beta)
    return after.length === 2 && !after.some((pid) => before.includes(pid))
  })
})
