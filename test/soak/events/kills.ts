/**
 * The events of kills: control process and worker of a host under load are killed with -9, again and
 * again. The first costs nobody anything; the second costs its own connections, and the host serves
 * again within a second.
 */

import type { DemoHost } from '#cli/demo/demo-host.ts'
import type { SoakSettings } from '#test/soak/soak.ts'
import { SoakMesh } from '#test/soak/soak.ts'

const victim = 'alpha'

/** Runs all of them. */
export async function kills(settings: SoakSettings): Promise<void> {
  const full = settings.size === 'full'
  const times = full ? 50 : 5
  // Brief runs are tests, and bear a crowded machine.
  const goalMs = full ? 1000 : 3000
  const mesh = await SoakMesh.raise(settings, { leafTtlSeconds: 3600, workers: 2 })
  try {
    const host = mesh.host(victim)
    settings.say(`the control process of ${victim} is killed`)
    await killControl(mesh, host, times)
    settings.say(`a worker of ${victim} is killed`)
    await killWorkers(mesh, host, { times, goalMs })
  } finally {
    await mesh.stop()
  }
}

async function killControl(mesh: SoakMesh, host: DemoHost, times: number): Promise<void> {
  const end = mesh.load.stretch()
  for (let time = 0; time < times; time++) {
    const { pid } = await host.admin.ask('status')
    process.kill(pid, 'SIGKILL')
    await mesh.until('another control process is ready', async () => {
      const status = await host.admin.ask('status')
      return status.pid !== pid && status.ready && status.workers.length === status.workersWanted
    })
    await mesh.more((name) => name === host.name)
  }
  mesh.noneFailed('kills-control', `${times} control processes killed`, end())
}

async function killWorkers(
  mesh: SoakMesh,
  host: DemoHost,
  { times, goalMs }: { readonly times: number; readonly goalMs: number },
): Promise<void> {
  let slowestMs = 0
  let [failed, most] = [0, 0]
  for (let time = 0; time < times; time++) {
    const { workers } = await host.admin.ask('status')
    const doomed = workers[time % workers.length]
    if (doomed === undefined) throw new Error('there is no worker to kill')
    // What is open on it now, and what comes while the kernel takes it apart, may end with it.
    const [generation] = await host.admin.ask('generations')
    const open = generation?.workers.find(({ pid }) => pid === doomed.pid)?.open ?? 0
    const end = mesh.load.stretch()
    process.kill(doomed.pid, 'SIGKILL')
    const killedAtMs = Date.now()
    await mesh.until('another worker has taken its place', async () => {
      const now = (await host.admin.ask('status')).workers
      const taken = now.find(({ index, tunnelPort }) => index === doomed.index && tunnelPort !== 0)
      return taken !== undefined && taken.pid !== doomed.pid && now.length === workers.length
    })
    await mesh.more((name) => name === host.name)
    const { failed: now, lastFailureMs } = end()
    failed += now
    most += open
    slowestMs = Math.max(slowestMs, lastFailureMs === 0 ? 0 : lastFailureMs - killedAtMs)
  }
  mesh.say(`  ${failed} requests ended with ${times} workers that carried ${most} connections`)
  mesh.atMost('kills-worker', `requests that ended with ${times} workers`, failed, most)
  mesh.atMost('kills-worker', 'ms until the last failure of a kill', slowestMs, goalMs)
}
