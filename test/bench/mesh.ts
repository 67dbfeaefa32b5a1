/**
 * Owns the mesh under measurement: two hosts on loopback, as an operator would run them, with their
 * agents pinned to one core and access lines off, as the peers have theirs.
 */

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { World } from '#cli/demo/world.ts'
import { descendants } from './program.ts'
import type { Place } from './peers/nginx.ts'

/** Ports of the explicit listeners on the calling host. */
const listenerPorts = { orders: 9301, raw: 9302 } as const

/** A running mesh. */
export class BenchMesh {
  readonly #world: World
  readonly #core: number

  private constructor(world: World, core: number) {
    this.#world = world
    this.#core = core
  }

  /**
   * Starts everything; `origin` becomes the services `orders` (HTTP) and `raw` (TCP) of one host.
   * @param store an etcd, where it is not the controller's own store
   */
  static async start(
    origin: { readonly http: number; readonly raw: number },
    core: number,
    profile: string | null,
    store?: string,
  ): Promise<BenchMesh> {
    const world = new World(
      {
        machine: {
          pid: process.pid,
          isRoot: false,
          node: process.execPath,
          environment: {
            PATH: process.env['PATH'] ?? '',
            HOME: '/tmp',
            ...(profile === null ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profile}` }),
          },
          isAlive: (pid) => attempt(() => process.kill(pid, 0)),
          killGroup: (pid) => void attempt(() => process.kill(-pid, 'SIGKILL')),
        },
        say: () => {},
      },
      {
        root: join(import.meta.dirname, '../..'),
        store: 'embedded',
        leafTtlSeconds: 86_400,
        agentConfig: { accessLog: 'off', workers: 1 },
      },
    )
    try {
      await world.startController(store === undefined ? {} : { store })
      await world.startAgents()
      const [caller, callee] = world.hosts
      callee.dropManifest('orders', { port: origin.http, address: '127.0.0.1' })
      callee.dropManifest('raw', { port: origin.raw, address: '127.0.0.1', protocol: 'tcp' })
      caller.dropManifest('web', { upstreams: listenerPorts })
      callee.dropManifest('web', { upstreams: listenerPorts })
      for (const host of world.hosts) await world.until('listeners are open', () => ready(host))
    } catch (error) {
      await world.stop()
      throw error
    }
    const mesh = new BenchMesh(world, core)
    mesh.pin()
    return mesh
  }

  /** Where a caller on the other host reaches a service. */
  cross(service: keyof typeof listenerPorts): Place {
    return { address: this.#world.hosts[0].place.local, port: listenerPorts[service] }
  }

  /** Makes one more service of an origin; answers where a caller on the other host reaches it. */
  async add(service: string, origin: Place, listenerPort: number): Promise<Place> {
    const [caller, callee] = this.#world.hosts
    callee.dropManifest(service, { port: origin.port, address: origin.address })
    caller.dropManifest(`web-${service}`, { upstreams: { [service]: listenerPort } })
    await this.#world.until(`${service} can be called`, async () => {
      const services = await caller.admin.ask('services')
      const { workers } = await caller.admin.ask('status')
      const open = workers[0]?.listeners.find(({ port }) => port === listenerPort)?.problem === ''
      return (
        open && services.some(({ name, instances }) => name === service && instances.length > 0)
      )
    })
    return { address: caller.place.local, port: listenerPort }
  }

  /** Waits until the worker on the service's host acts on a view of so many services. */
  async knows(services: number): Promise<void> {
    const { admin } = this.#world.hosts[1]
    await this.#world.until(`${services} services are known`, async () => {
      const { snapshot, workers } = await admin.ask('status')
      const known = (await admin.ask('services')).length
      return known >= services && workers.every(({ applied }) => applied === snapshot.sequence)
    })
  }

  /** Where a caller on the service's own host reaches it. */
  local(service: keyof typeof listenerPorts): Place {
    return { address: this.#world.hosts[1].place.local, port: listenerPorts[service] }
  }

  /** Every process of both agents. */
  get pids(): readonly number[] {
    return this.#world.hosts.flatMap((host) => this.#pidsOf(host))
  }

  /** Every process of the agent on the service's host. */
  get calleePids(): readonly number[] {
    return this.#pidsOf(this.#world.hosts[1])
  }

  /** Keeps every process of the agents on the core under measurement. */
  pin(): void {
    for (const pid of this.pids) {
      execFileSync('taskset', ['-acp', String(this.#core), String(pid)], { stdio: 'ignore' })
    }
  }

  async stop(): Promise<void> {
    await this.#world.stop()
  }

  #pidsOf(host: DemoHost): readonly number[] {
    const pid = host.agent?.pid
    return pid === undefined ? [] : descendants(pid)
  }
}

async function ready(host: DemoHost): Promise<boolean> {
  const services = await host.admin.ask('services')
  const { workers } = await host.admin.ask('status')
  const listeners = workers.flatMap((worker) => worker.listeners)
  return (
    services.length === 2 &&
    services.every(({ instances }) => instances.length === 1) &&
    listeners.length === 3 &&
    listeners.every(({ problem }) => problem === '')
  )
}

function attempt(run: () => unknown): boolean {
  try {
    run()
    return true
  } catch {
    return false
  }
}
