/** Owns the checks of where this host takes connections, and of the address it tells others. Pure. */

import type { AgentFacts } from '#shared/model/admin.ts'
import { bad, list, ok, skipped, type Check, type Judgement } from './judgement.ts'

/** What workers call the listener of the forward proxy. */
const forwardProxy = 'forward proxy'

function listeners(facts: AgentFacts, wanted: (name: string) => boolean): Judgement {
  const all = facts.status.workers.flatMap((worker) => worker.listeners)
  // Workers open the same ports; one that a single worker could not open is not open.
  const byPort = Map.groupBy(
    all.filter((listener) => wanted(listener.name)),
    ({ name, address, port }) => `${name} ${address} ${port}`,
  )
  const mine = [...byPort.values()].flatMap(
    (same) => same.find(({ problem }) => problem !== '') ?? same.slice(0, 1),
  )
  const closed = mine.filter((listener) => listener.problem !== '')
  if (facts.status.workers.length === 0) return skipped('no worker is connected')
  if (closed.length === 0) return ok(`${mine.length} open`)
  const words = closed.map(
    ({ name, address, port, problem }) => `${name} at ${address}:${port}: ${problem}`,
  )
  return bad(
    'failed',
    `${closed.length} of ${mine.length} not open`,
    list(words),
    'free the port (ss -ltnp shows its owner) or change it; the agent tries again by itself',
  )
}

/** In the order they are shown. */
export const listenerChecks: readonly Check[] = [
  {
    name: 'tunnel-listener',
    judge: ({ status: { workers: all } }) => {
      // One that was replaced takes none any more, and finishes what it has.
      const workers = all.filter(({ phase }) => phase !== 'retiring')
      const shut = workers.filter(({ tunnelPort }) => tunnelPort === 0)
      if (workers.length === 0) return skipped('no worker is connected')
      return shut.length === 0
        ? ok(
            `tunnels are taken at port ${[...new Set(workers.map((one) => one.tunnelPort))].join()}`,
          )
        : bad(
            'failed',
            `${shut.length} of ${workers.length} workers take no tunnels`,
            'the port of listen.tunnel is taken, or the worker has only just started',
            'free the port (ss -ltnp shows its owner) or change listen.tunnel',
          )
    },
  },
  {
    name: 'forward-proxy-listener',
    judge: (facts) => listeners(facts, (name) => name === forwardProxy),
  },
  {
    name: 'explicit-listeners',
    judge: (facts) => listeners(facts, (name) => name !== forwardProxy),
  },
  {
    name: 'advertised-address',
    judge: ({ status }) =>
      status.snapshot.hosts > 1 && /^(?:0\.0\.0\.0|::1?|127\.0\.0\.1)$/.test(status.address)
        ? bad(
            'warning',
            `other hosts are told to reach this one at ${status.address}`,
            'the address was detected or configured as this host’s own loopback',
            'set "address" in agent.json to an address other hosts can reach',
          )
        : ok(`other hosts reach this one at ${status.address}`),
  },
]
