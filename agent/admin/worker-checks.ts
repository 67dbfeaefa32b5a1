/** Owns the checks of the proxy workers as a group: whether they are there, what they act on, crashes, versions. Pure. */

import type { WorkerReport } from '#shared/model/admin-workers.ts'
import { counted } from '#shared/model/counted.ts'
import { mostGenerations } from '#shared/model/generations.ts'
import { bad, list, ok, skipped, type Check } from './judgement.ts'

function name({ generation, index }: WorkerReport): string {
  return `worker ${generation}-${index}`
}

/** In the order they are shown. */
export const workerChecks: readonly Check[] = [
  {
    name: 'workers-connected',
    judge: ({ status: { workers, workersWanted } }) => {
      if (workers.length >= workersWanted) return ok(counted(workers.length, 'proxy worker'))
      return bad(
        workers.length === 0 ? 'failed' : 'warning',
        workers.length === 0
          ? 'no proxy worker is connected'
          : `${workers.length} of ${workersWanted} proxy workers are connected`,
        workers.length === 0
          ? 'none was started, or they cannot open the worker socket'
          : 'they have not started yet, or cannot open the worker socket',
        'start mesh-proxy (or the supervisor); its log names the reason',
      )
    },
  },
  {
    name: 'workers-current',
    judge: ({ status: { workers, snapshot } }) => {
      const behind = workers.filter(({ applied }) => applied < snapshot.sequence)
      if (workers.length === 0) return skipped('no worker is connected')
      return behind.length === 0
        ? ok(`all act on snapshot ${snapshot.sequence}`)
        : bad(
            'warning',
            `${behind.length} of ${workers.length} act on an older snapshot`,
            list(behind.map(({ pid, applied }) => `worker ${pid} is at ${applied}`)),
            'run this again; if it stays, restart that worker and report a bug',
          )
    },
  },
  {
    name: 'worker-crashes',
    judge: ({ status: { workers } }) => {
      const fallen = workers.filter(({ crashes }) => crashes > 0)
      return fallen.length === 0
        ? ok('no worker has crashed since the agent started')
        : bad(
            'warning',
            `${fallen.length} of ${workers.length} workers have crashed since the agent started`,
            list(fallen.map((one) => `${name(one)}: ${one.crashes} times`)),
            'its log (journalctl -u "mesh-proxy@*") ends with the reason; please report it',
          )
    },
  },
  {
    name: 'worker-versions',
    judge: ({ status: { version, workers } }) => {
      const live = workers.filter(({ phase }) => phase === 'live')
      const others = live.filter((one) => one.version !== version)
      if (live.length === 0) return skipped('no worker takes connections')
      return others.length === 0
        ? ok(`agent and workers are version ${version}`)
        : bad(
            'warning',
            `${others.length} of ${live.length} workers are of another version than the agent`,
            list(
              others.map((one) => `${name(one)} is ${one.version || 'unknown'}, not ${version}`),
            ),
            'finish the upgrade: meshctl upgrade',
          )
    },
  },
  {
    name: 'worker-generations',
    judge: ({ status: { workers } }) => {
      const generations = [...new Set(workers.map(({ generation }) => generation))].toSorted(
        (a, b) => a - b,
      )
      if (workers.length === 0) return skipped('no worker is connected')
      return generations.length < mostGenerations
        ? ok(`generation ${generations.join(' and ')}`)
        : bad(
            'warning',
            `${generations.length} generations of workers live, and no more may`,
            'long connections keep old ones alive; a further upgrade is refused meanwhile',
            'meshctl generations shows what each carries: end those connections, or wait for retireMs',
          )
    },
  },
  {
    name: 'workers-trust',
    judge: ({ status: { workers } }) => {
      const newest = Math.max(0, ...workers.map(({ trust }) => trust.bundle))
      const bans = Math.max(0, ...workers.map(({ trust }) => trust.bans))
      const behind = workers.filter(({ trust }) => trust.bundle < newest || trust.bans < bans)
      if (workers.length === 0) return skipped('no worker is connected')
      return behind.length === 0
        ? ok(`all act on trust bundle ${newest} and bans ${bans}`)
        : bad(
            'warning',
            `${behind.length} of ${workers.length} workers act on older trust`,
            list(
              behind.map(
                (one) => `${name(one)}: bundle ${one.trust.bundle}, bans ${one.trust.bans}`,
              ),
            ),
            'run this again; if it stays, restart that worker: who is banned may still pass there',
          )
    },
  },
]
