/**
 * Owns the scenario of scale: a thousand simulated hosts of ten instances each and two real agents on
 * one real etcd, through a join storm, quiet, steady change and an outage. What etcd and an agent
 * cost is told; that nobody misses an update, and how soon all agree, is judged. Every host hears of every
 * change, which is more than two cores carry while there are a hundred a second: sessions end, and it
 * counts that all agree again soon after. With `--whole-mesh` below their instances hosts follow what they use.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { World } from '#cli/demo/world.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { meshPrefix } from '#shared/store/keys.ts'
import type { Bench } from '#test/bench/bench.ts'
import { cpuSeconds, descendants, memoryMiB } from '#test/bench/program.ts'
import type { Result } from '#test/bench/result.ts'
import { placeOf, servicesOf, Simulation, type Fleet } from '#test/bench/simulation.ts'
import { TestEtcd } from '#test/support/etcd.ts'
import { thisMachine } from '#test/support/this-machine.ts'

const changesPerSecond = 100
/** By then the waits between tries have grown as long as they get, as in ten minutes. */
const outageMs = 30_000
const deadlineMs = 300_000
/** As after a power cut: a thousand machines have booted within a minute. */
const joinEveryMs = 60
const sayEveryMs = 10_000

/** See the header. */
export async function scale(bench: Bench): Promise<Result[]> {
  const { hosts, wholeMesh } = bench.settings
  const fleet: Fleet = { hosts, instances: 10, services: hosts, wholeMesh }
  const directory = mkdtempSync(join(tmpdir(), 'hostmesh-scale-'))
  const etcd = await TestEtcd.start(join(directory, 'etcd'))
  const world = new World(
    { machine: { ...thisMachine, isRoot: false }, say: () => {} },
    {
      root: join(import.meta.dirname, '../../..'),
      store: 'embedded',
      leafTtlSeconds: 86_400,
      agentConfig: { accessLog: 'off', workers: 1, wholeMesh },
    },
  )
  const simulation = new Simulation(fleet, { endpoint: etcd.url, programs: 2 })
  try {
    await world.startController({ store: etcd.url })
    await world.startAgents()
    const used = servicesOf(0, fleet)
    if (used !== null) world.hosts[0].dropManifest('caller', { requires: [...used] })
    return await new Scale(bench, { etcd, agent: world.hosts[0], simulation, fleet }).run()
  } finally {
    await simulation.stop()
    await world.stop()
    await etcd.kill()
    rmSync(directory, { recursive: true, force: true })
  }
}

interface ScaleParts {
  readonly etcd: TestEtcd
  readonly agent: DemoHost
  readonly simulation: Simulation
  readonly fleet: Fleet
}

/** What a stretch of time cost. */
interface Cost {
  readonly seconds: number
  readonly etcd: number
  readonly agent: number
}

class Scale {
  readonly #bench: Bench
  readonly #parts: ScaleParts
  readonly #rows: Result[] = []

  constructor(bench: Bench, parts: ScaleParts) {
    this.#bench = bench
    this.#parts = parts
  }

  async run(): Promise<Result[]> {
    const { simulation, etcd, fleet } = this.#parts
    const { say, seconds } = this.#bench.settings
    say(`${fleet.hosts} hosts of ${fleet.instances} instances join`)
    simulation.tell({ kind: 'join', withinMs: fleet.hosts * joinEveryMs })
    const join = await this.#cost(() => this.#agreement())
    this.#tell('join storm: seconds until all know all', join.seconds)
    this.#tell('join storm: seconds of CPU of etcd', join.etcd)
    this.#tell('join storm: seconds of CPU of one agent', join.agent)

    say('quiet')
    const quiet = await this.#cost(() => sleep(seconds * 2000))
    this.#tell('quiet: % of a core for etcd', share(quiet.etcd, quiet))
    this.#tell('quiet: % of a core for one agent', share(quiet.agent, quiet))
    this.#tell('quiet: memory of etcd, MiB', memoryMiB(this.#etcdPids()))
    this.#tell(
      'quiet: memory of one agent, control process and worker, MiB',
      memoryMiB(this.#agentPids()),
    )

    say(`${changesPerSecond} changes a second`)
    const change = await this.#cost(() => this.#change(seconds * 2))
    this.#tell(`${changesPerSecond} changes/s: % of a core for etcd`, share(change.etcd, change))
    this.#tell(
      `${changesPerSecond} changes/s: % of a core for one agent`,
      share(change.agent, change),
    )
    const after = await this.#cost(() => this.#agreement())
    this.#tell('seconds until all agree after the last change', after.seconds)

    say('an outage')
    await etcd.kill()
    await sleep(outageMs / 2)
    simulation.tell({ kind: 'change', count: 200 })
    await sleep(outageMs / 2)
    await etcd.start()
    const back = await this.#cost(() => this.#agreement())
    this.#tell('outage: seconds until all agree after its end', back.seconds)
    this.#tell('outage: seconds of CPU of etcd until then', back.etcd)
    this.#tell('outage: seconds of CPU of one agent until then', back.agent)
    return [...this.#rows, await this.#lost()]
  }

  /** Waits until every simulated host knows the same as the store, and so do the agents. */
  async #agreement(): Promise<void> {
    const until = Date.now() + deadlineMs
    const { fleet } = this.#parts
    for (let sayAt = Date.now() + sayEveryMs; ;) {
      const { connected, missing, ended, busyMs } = await this.#parts.simulation.report()
      const isWhole = connected === fleet.hosts && missing === 0
      if (isWhole && (await this.#misses()) === 0) return
      const words = `${connected} hosts connected, up to ${missing} instances not known`
      if (Date.now() > sayAt) {
        sayAt = Date.now() + sayEveryMs
        const more = `busy for ${busyMs} ms, sessions ended: ${JSON.stringify(ended)}`
        this.#bench.settings.say(`  ${words}, ${more}`)
      }
      if (Date.now() > until) throw new Error(`no agreement: ${words}`)
      await sleep(250)
    }
  }

  /** Changes at an even pace. */
  async #change(seconds: number): Promise<void> {
    const everyMs = 100
    const startedAt = performance.now()
    for (let i = 1; i <= (seconds * 1000) / everyMs; i++) {
      this.#parts.simulation.tell({ kind: 'change', count: (changesPerSecond * everyMs) / 1000 })
      await sleep(Math.max(0, startedAt + i * everyMs - performance.now()))
    }
  }

  /** What the store has: the revision of each instance, and its weight. */
  async #stored(): Promise<{
    readonly revisions: readonly number[]
    readonly weights: ReadonlyMap<string, number>
  }> {
    const { etcd, fleet } = this.#parts
    const { url } = etcd
    const parts = { clock: systemClock, random: systemRandom }
    const client = openEtcd(parts, { endpoints: [url], timeoutMs: 60_000 })
    const used = servicesOf(0, fleet)
    try {
      const revisions = Array.from({ length: fleet.hosts * fleet.instances }, () => 0)
      const weights = new Map<string, number>()
      for (const { key, value, modRevision } of (await client.list(meshPrefix)).entries) {
        const at = placeOf(key, fleet)
        if (at < 0) continue
        revisions[at] = modRevision
        const { service, host, weight } = JSON.parse(value) as {
          service: string
          host: string
          weight: number
        }
        if (used?.has(service) !== false) weights.set(`${service}@${host}`, weight)
      }
      return { revisions, weights }
    } finally {
      client.close()
    }
  }

  /** How many simulated hosts, and instances of a real agent, know otherwise than the store. */
  async #misses(): Promise<number> {
    const { revisions, weights } = await this.#stored()
    const { differing } = await this.#parts.simulation.report(revisions)
    const services = await this.#parts.agent.admin.ask('services')
    const known = new Map<string, number>(
      services.flatMap(({ name, instances }) =>
        instances.map((one) => [`${name}@${one.host}`, one.weight] as const),
      ),
    )
    return differing + [...weights].filter(([place, weight]) => known.get(place) !== weight).length
  }

  async #lost(): Promise<Result> {
    const ours = await this.#misses()
    return {
      ...this.#row('updates lost, by simulated hosts and an agent', ours),
      goal: 0,
      ok: ours === 0,
    }
  }

  async #cost(run: () => Promise<unknown>): Promise<Cost> {
    const [etcdPids, agentPids] = [this.#etcdPids(), this.#agentPids()]
    const before = [cpuSeconds(etcdPids), cpuSeconds(agentPids)] as const
    const startedAt = performance.now()
    await run()
    return {
      seconds: (performance.now() - startedAt) / 1000,
      etcd: cpuSeconds(etcdPids) - before[0],
      agent: cpuSeconds(agentPids) - before[1],
    }
  }

  #etcdPids(): readonly number[] {
    const { pid } = this.#parts.etcd
    return pid === undefined ? [] : [pid]
  }

  #agentPids(): readonly number[] {
    const pid = this.#parts.agent.agent?.pid
    return pid === undefined ? [] : descendants(pid)
  }

  #tell(metric: string, ours: number): void {
    this.#rows.push(this.#row(metric, ours))
  }

  #row(metric: string, ours: number): Result {
    const none = { peer: Number.NaN, peerName: '', ratio: Number.NaN }
    return { name: 'scale', metric, ours, ...none, goal: null, ok: true }
  }
}

function share(seconds: number, cost: Cost): number {
  return (seconds / cost.seconds) * 100
}
