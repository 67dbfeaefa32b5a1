/**
 * Owns the mesh under measurement: two hosts as an operator would run them, with their agents pinned
 * to one core and access lines off, as the peers have theirs. Calls are captured where the hosts have
 * networks of their own; elsewhere callers use explicit listeners.
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { World } from '#cli/demo/world.ts'
import { freePort } from '#test/support/free-port.ts'
import { thisMachine } from '#test/support/this-machine.ts'
import { descendants, type Program } from './program.ts'
import { cores, startOrigin, users, wayFrom, type Origin, type Way } from './site.ts'

/** Settings of a mesh. */
export interface BenchMeshSettings {
  readonly store: 'embedded' | 'etcd'
  /** Whether the hosts are to be namespaces, where calls are captured. */
  readonly capture: boolean
  /** For files of its origin; it must not be there yet. */
  readonly directory: string
  /** Where CPU profiles go; null for none. */
  readonly profile: string | null
}

/** Ports of the explicit listeners on the calling host. */
const listenerPorts: Readonly<Record<string, number>> = { orders: 9301, raw: 9302, sockets: 9303 }
/** A service with one port is captured there, too. */
const capturedPort = 80

/** A running mesh. */
export class BenchMesh {
  /** Whether the kernel leads its callers to it. */
  readonly captures: boolean
  readonly #world: World
  readonly #programs: Program[] = []
  /** Virtual IPs of services as the hosts tell them, by host and service. */
  readonly #addresses = new Map<string, string>()

  private constructor(world: World) {
    this.#world = world
    this.captures = world.kind === 'namespaces'
  }

  /** Starts everything: an origin is the services `orders` (HTTP) and `raw` (TCP) of one host. */
  static async start(settings: BenchMeshSettings): Promise<BenchMesh> {
    const { store, capture, directory, profile } = settings
    const environment = {
      PATH: process.env['PATH'] ?? '',
      HOME: '/tmp',
      ...(profile === null ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profile}` }),
    }
    const world = new World(
      { machine: { ...thisMachine, isRoot: capture, environment }, say: () => {} },
      {
        root: join(import.meta.dirname, '../..'),
        store,
        leafTtlSeconds: 86_400,
        agentConfig: { accessLog: 'off', workers: 1 },
      },
    )
    const mesh = new BenchMesh(world)
    try {
      await mesh.#raise(directory)
    } catch (error) {
      await mesh.stop()
      throw error
    }
    return mesh
  }

  async #raise(directory: string): Promise<void> {
    const [caller, callee] = this.#world.hosts
    mkdirSync(directory, { mode: 0o755 })
    const { origin, program } = await startOrigin(callee.place, join(directory, 'origin'))
    this.#programs.push(program)
    await this.#world.startController()
    await this.#world.startAgents()
    this.#dropManifests(origin)
    for (const host of [caller, callee]) {
      for (const service of ['orders', 'raw']) await this.#reaches(host, service)
    }
    this.pin()
  }

  #dropManifests({ http, raw }: Origin): void {
    const [, callee] = this.#world.hosts
    const run = (user: number): object => (this.captures ? { run: { user: String(user) } } : {})
    callee.dropManifest('orders', { ...http, ...run(users.orders) })
    callee.dropManifest('raw', { ...raw, protocol: 'tcp' })
    const { orders, raw: rawPort } = listenerPorts
    const web = this.captures ? run(users.web) : { upstreams: { orders, raw: rawPort } }
    for (const host of this.#world.hosts) host.dropManifest('web', { ...web })
  }

  /** Waits until programs of a host can call a service as `web`. */
  async #reaches(host: DemoHost, service: string): Promise<void> {
    await this.#world.until(`${service} can be called from ${host.name}`, async () => {
      const services = await host.admin.ask('services')
      const { workers, capture } = await host.admin.ask('status')
      const found = services.find(({ name }) => name === service)
      if (found === undefined || found.instances.length === 0) return false
      if (!this.captures) {
        const port = listenerPorts[service]
        return workers[0]?.listeners.find((one) => one.port === port)?.problem === ''
      }
      const [address] = found.addresses
      if (address === undefined || capture.kind !== 'on') return false
      this.#addresses.set(`${host.name} ${service}`, address)
      return capture.callers.some(({ user }) => user === users.web)
    })
  }

  /** How a caller on the other host reaches a service. */
  cross(service: string): Way {
    return this.#way(this.#world.hosts[0], service)
  }

  /** How a caller on the service's own host reaches it. */
  local(service: string): Way {
    return this.#way(this.#world.hosts[1], service)
  }

  #way({ name, place }: DemoHost, service: string): Way {
    const address = this.#addresses.get(`${name} ${service}`)
    const port = listenerPorts[service] ?? 0
    return wayFrom(
      place,
      address === undefined ? { address: place.local, port } : { address, port: capturedPort },
    )
  }

  /** Makes one more service of a kind of `service-program.ts`; answers how a caller on the other host reaches it. */
  async add(service: string, kind: string): Promise<Way> {
    const [caller, callee] = this.#world.hosts
    const port = await freePort()
    const file = join(import.meta.dirname, '../support/service-program.ts')
    const { local } = callee.place
    const words = [process.execPath, file, kind, local, String(port), callee.name]
    callee.start(service, ['taskset', '-c', String(cores.load), ...words])
    callee.dropManifest(service, { port, address: local })
    if (!this.captures) {
      const upstreams = { [service]: listenerPorts[service] }
      caller.dropManifest(`web-${service}`, { upstreams })
    }
    await this.#reaches(caller, service)
    return this.cross(service)
  }

  /** Where the etcd of a mesh on one is reached, and from where. */
  get etcd(): Pick<Way, 'enter'> & { readonly url: string } {
    const { place } = this.#world.hosts[0]
    return { url: this.#world.etcdUrl, enter: (command) => place.enter(command) }
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

  /** Every process of both agents. */
  get pids(): readonly number[] {
    return this.#world.hosts.flatMap(pidsOf)
  }

  /** Every process of the agent on the service's host. */
  get calleePids(): readonly number[] {
    return pidsOf(this.#world.hosts[1])
  }

  /** Keeps every process of the agents on the core under measurement. */
  pin(): void {
    for (const pid of this.pids) {
      execFileSync('taskset', ['-acp', String(cores.proxy), String(pid)], { stdio: 'ignore' })
    }
  }

  async stop(): Promise<void> {
    for (const program of this.#programs) await program.stop()
    await this.#world.stop()
  }
}

function pidsOf({ agent }: DemoHost): readonly number[] {
  return agent?.pid === undefined ? [] : descendants(agent.pid)
}
