/**
 * Owns what every event of a soak stands on: four hosts with one service each, the load of GOALS over
 * all of them, and rows for what was seen. Events are in `events/`; they do things and watch.
 */

import { join } from 'node:path'
import type { Child } from '#cli/demo/child.ts'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { World } from '#cli/demo/world.ts'
import type { Result } from '#test/bench/result.ts'
import { EtcdCluster } from '#test/support/etcd-cluster.ts'
import { root } from '#test/support/sources.ts'
import { thisMachine } from '#test/support/this-machine.ts'
import { until } from '#test/support/until.ts'
import type { Stretch } from './load.ts'
import { SoakLoad } from './load.ts'

/** How much of everything. */
export interface SoakSettings {
  /** `full` as GOALS says, `brief` in seconds with few clients and deadlines three times as long. */
  readonly size: 'full' | 'brief'
  /** A remark for the person who watches. */
  readonly say: (line: string) => void
  /** Takes each row as soon as it is known. */
  readonly onRow: (row: Result) => void
}

/** How one mesh of a soak differs. */
export interface SoakMeshSettings {
  readonly leafTtlSeconds: number
  /** `cluster`: a real etcd of three nodes, in places of their own. @default 'embedded' */
  readonly store?: 'embedded' | 'cluster'
  /** Where the programs are. @default this checkout */
  readonly root?: string
  /** Of each agent. @default 1 */
  readonly workers?: number
}

const service = join(root, 'test/support/service-program.ts')
/** Of the two services on each host, and of the callers' ways to them. */
const served = { orders: 8080, alone: 8081 } as const
const ports = { orders: 9001, alone: 9002 } as const
const patience = { withinMs: 180_000 }
/** A request that takes longer has failed. */
const answerMs = 2000

/** Meshes that run, so that none is left when a soak is broken off. */
const running = new Set<SoakMesh>()

/** Ends every mesh at once and removes what it made. */
export function killMeshes(): void {
  for (const mesh of running) mesh.kill()
}

/** A mesh under load, for the time of one event or several. */
export class SoakMesh {
  readonly world: World
  /** The newest program of each service, as `service@host`. */
  readonly services = new Map<string, Child>()
  readonly #settings: SoakSettings
  #cluster: EtcdCluster | null = null
  #load: SoakLoad | null = null

  private constructor(settings: SoakSettings, world: World) {
    this.#settings = settings
    this.world = world
  }

  /** Raises four hosts, their services and their callers, and waits until all are answered. */
  static async raise(settings: SoakSettings, mesh: SoakMeshSettings): Promise<SoakMesh> {
    const world = new World(
      { machine: thisMachine, say: settings.say },
      {
        root: mesh.root ?? root,
        hosts: 4,
        store: 'embedded',
        leafTtlSeconds: mesh.leafTtlSeconds,
        agentConfig: { accessLog: 'errors', workers: mesh.workers ?? 1 },
      },
    )
    const soak = new SoakMesh(settings, world)
    running.add(soak)
    try {
      if (mesh.store === 'cluster') {
        const { namespace: bridge, directory } = world
        soak.#cluster = await EtcdCluster.start({ directory, bridge })
      }
      await soak.startController()
      await world.startAgents()
      await soak.#populate()
    } catch (error) {
      await soak.stop()
      throw error
    }
    return soak
  }

  get load(): SoakLoad {
    if (this.#load === null) throw new TypeError('the load has not begun')
    return this.#load
  }

  /** The real etcd that is its store. */
  get cluster(): EtcdCluster {
    if (this.#cluster === null) throw new TypeError('the store of this mesh is embedded')
    return this.#cluster
  }

  /** Starts the controller, again perhaps. */
  startController(): Promise<void> {
    return this.world.startController(this.#cluster === null ? {} : { store: this.#cluster.urls })
  }

  /** A host by its name. */
  host(name: string): DemoHost {
    const host = this.world.hosts.find((one) => one.name === name)
    if (host === undefined) throw new TypeError(`no host ${name}`)
    return host
  }

  /** Starts an HTTP service on a host. */
  serve(host: DemoHost, name: string, port: number): Child {
    const words = [service, 'http', host.place.local, String(port), host.name]
    const child = host.start(name, [thisMachine.node, ...words])
    this.services.set(`${name}@${host.name}`, child)
    return child
  }

  /** Runs `meshctl`; throws what it says when it fails. */
  async meshctl(...words: readonly string[]): Promise<string> {
    const { ok, output } = await this.world.meshctl(...words)
    if (!ok) throw new Error(`meshctl ${words.join(' ')}: ${output}`)
    return output
  }

  /** Waits; what `holds` throws counts as not yet. */
  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    await until(what, holds, patience)
  }

  /** Waits until callers of every host that `from` picks have had fifty more answers. */
  async more(from: (host: string) => boolean = () => true): Promise<void> {
    for (const { name } of this.world.hosts.filter((host) => from(host.name))) {
      const enough = this.load.answersTo(name) + 50
      await this.until(`callers on ${name} get on`, () => this.load.answersTo(name) >= enough)
    }
  }

  /** A remark for the person who watches. */
  say(line: string): void {
    this.#settings.say(line)
  }

  /** Reports a count with its goal, at most `goal`. */
  atMost(name: string, metric: string, ours: number, goal: number): void {
    const none = { peer: Number.NaN, peerName: '', ratio: Number.NaN }
    this.#settings.onRow({ name, metric, ours, ...none, goal, ok: ours <= goal })
  }

  /** Reports that a stretch cost nobody a request. */
  noneFailed(name: string, what: string, { requests, failed, failures }: Stretch): void {
    for (const failure of failures) this.#settings.say(`  ${name}: ${failure}`)
    this.atMost(name, `failed of ${requests} requests, ${what}`, failed, 0)
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    await this.#load?.stop()
    await this.world.stop()
    await this.#cluster?.stop()
    running.delete(this)
  }

  /** Ends everything at once, where there is no time. */
  kill(): void {
    this.world.kill()
    for (const node of this.#cluster?.nodes ?? []) void node.kill()
    for (const node of this.#cluster?.nodes ?? []) node.remove()
  }

  async #populate(): Promise<void> {
    const { hosts } = this.world
    for (const host of hosts) {
      const { local } = host.place
      for (const [name, port] of Object.entries(served)) {
        this.serve(host, name, port)
      }
      host.dropManifest('orders', { port: served.orders, address: local })
      // Only here, so that whoever calls it from elsewhere must cross.
      host.dropManifest(`alone-${host.name}`, { port: served.alone, address: local })
      const next = hosts[(hosts.indexOf(host) + 1) % hosts.length]?.name
      const upstreams = { orders: ports.orders, [`alone-${next}`]: ports.alone }
      host.dropManifest('web', { upstreams })
    }
    const names = ['orders', ...hosts.map(({ name }) => `alone-${name}`)]
    for (const host of hosts) {
      await this.until(`${host.name} sees everything`, async () => {
        const seen = await host.admin.ask('services')
        return names.every((name) => {
          const count = seen.find((one) => one.name === name)?.instances.length ?? 0
          return count === (name === 'orders' ? hosts.length : 1)
        })
      })
    }
    for (const host of hosts) {
      await this.until(`the workers of ${host.name} act on it, and listen`, async () => {
        const { workers, snapshot } = await host.admin.ask('status')
        return workers.every(({ applied, listeners }) => {
          const isOpen = (port: number): boolean =>
            listeners.some((one) => one.port === port && one.problem === '')
          return applied >= snapshot.sequence && Object.values(ports).every(isOpen)
        })
      })
    }
    // GOALS: 64 keep-alive and 16 new-connection clients over four hosts.
    const full = this.#settings.size === 'full'
    const pauseMs = full ? 50 : 100
    const [kept, fresh] = full ? [8, 2] : [2, 1]
    this.#load = new SoakLoad(
      { hosts, node: thisMachine.node },
      {
        patienceMs: this.#settings.size === 'full' ? answerMs : 3 * answerMs,
        targetsOf: ({ place: { local: host } }) =>
          (['orders', 'alone'] as const).flatMap((name) => [
            { name, host, port: ports[name], clients: kept, fresh: false, pauseMs },
            { name, host, port: ports[name], clients: fresh, fresh: true, pauseMs },
          ]),
      },
    )
    await this.more()
  }
}
