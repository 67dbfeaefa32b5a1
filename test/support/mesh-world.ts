/**
 * Owns a whole mesh for tests: the demo's world, its services, and the questions tests ask of it.
 * Everything is ended and removed with the test, and nothing that ran may be left.
 */

import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import type { Child } from '#cli/demo/child.ts'
import { World, type WorldSettings } from '#cli/demo/world.ts'
import { root } from './sources.ts'
import { thisMachine } from './this-machine.ts'
import { until } from './until.ts'

/** The part of a test that a world uses. */
export interface WorldTest {
  teardown(run: () => Promise<void>): unknown
  comment(line: string): unknown
}

/** Settings of a mesh for tests. */
export type MeshWorldSettings = Partial<WorldSettings> & {
  /** @default 'loopback' */
  readonly places?: 'loopback' | 'namespaces'
  /** Where a store runs already, of a world that starts none. */
  readonly storeUrl?: string
  /** What to look at while the places are there and no agent runs yet. */
  readonly beforeAgents?: (mesh: MeshWorld) => Promise<void>
  /** Beside what every program gets. */
  readonly environment?: Readonly<Record<string, string>>
}

/** How long anything may take that only a broken mesh does not do. */
const patience = { withinMs: 120_000 }
const service = join(import.meta.dirname, 'service-program.ts')

/** See the header. */
export class MeshWorld {
  readonly world: World
  readonly alpha: DemoHost
  readonly beta: DemoHost

  private constructor(world: World) {
    this.world = world
    const [alpha, beta] = world.hosts
    this.alpha = alpha
    this.beta = beta
  }

  /** Starts a controller and two agents, and waits until they are ready. */
  static async raise(t: WorldTest, settings: MeshWorldSettings = {}): Promise<MeshWorld> {
    const isRoot = settings.places === 'namespaces' && thisMachine.isRoot
    const environment = { ...thisMachine.environment, ...settings.environment }
    const world = new World(
      { machine: { ...thisMachine, isRoot, environment }, say: (line) => t.comment(line) },
      {
        root,
        store: 'embedded',
        leafTtlSeconds: 3600,
        ...settings,
        // The same on every machine; tests of several workers ask for them.
        agentConfig: { workers: 1, ...settings.agentConfig },
      },
    )
    const mesh = new MeshWorld(world)
    t.teardown(async () => {
      await world.stop()
      await until('every program has ended', () => mesh.processes().length === 0, patience)
    })
    await world.startController(settings.storeUrl === undefined ? {} : { store: settings.storeUrl })
    await settings.beforeAgents?.(mesh)
    await world.startAgents()
    return mesh
  }

  /** Starts a service: one of the kinds of `service-program.ts`. */
  serve(
    host: DemoHost,
    kind: 'http' | 'echo' | 'greeter' | 'websocket',
    name: string,
    port: number,
  ): Child {
    const words = [service, kind, host.place.local, String(port), host.name] as const
    return host.start(name, [thisMachine.node, ...words])
  }

  /**
   * Waits until `host` sees instances of a service on exactly these hosts, and until the workers of
   * all of them act on it: control processes know first.
   */
  async sees(host: DemoHost, name: string, hosts: readonly string[]): Promise<void> {
    const wanted = [...hosts].sort().join()
    await this.until(`${host.name} sees ${name} on ${wanted}`, async () => {
      const services = await host.admin.ask('services')
      const found = services.find((one) => one.name === name)?.instances ?? []
      return (
        found
          .map((one) => one.host)
          .sort()
          .join() === wanted
      )
    })
    for (const one of this.world.hosts) {
      const isConcerned = one === host || hosts.includes(one.name)
      if (isConcerned && one.agent !== null) await this.acts(one)
    }
  }

  /** Waits until every serving worker of `host` acts on what its control process knows by now. */
  async acts(host: DemoHost): Promise<void> {
    await this.until(`the workers of ${host.name} act on what is known`, async () => {
      const { workers, snapshot } = await host.admin.ask('status')
      const serving = workers.filter(({ phase }) => phase !== 'retiring')
      return serving.length > 0 && serving.every(({ applied }) => applied >= snapshot.sequence)
    })
  }

  /** Waits until the agent of `host` is ready. */
  async ready(host: DemoHost): Promise<void> {
    await this.until(`${host.name} is ready`, async () => (await host.admin.ask('status')).ready)
  }

  /** Waits; what `holds` throws counts as not yet. Tells the ends of all logs when it gives up. */
  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    try {
      await until(what, holds, patience)
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${this.logs()}`, { cause: error })
    }
  }

  /** The pids of a host's workers, in the order of their places. */
  async workerPids(host: DemoHost): Promise<readonly number[]> {
    const { workers } = await host.admin.ask('status')
    return workers.map(({ pid }) => pid)
  }

  /** The pids of the control process and the worker of a host, as the control process tells them. */
  async pids(host: DemoHost): Promise<{ readonly control: number; readonly worker: number }> {
    const { pid, workers } = await host.admin.ask('status')
    return { control: pid, worker: workers[0]?.pid ?? 0 }
  }

  /** The command lines of every process that belongs to this world. */
  processes(): readonly string[] {
    return readdirSync('/proc')
      .filter((name) => /^[0-9]+$/.test(name))
      .flatMap((pid) => {
        try {
          const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
          return words.includes(this.world.directory) ? [`${pid} ${words}`] : []
        } catch {
          return []
        }
      })
  }

  /** The ends of the agents' logs, without access lines. */
  logs(): string {
    return this.world.hosts
      .flatMap((host) => {
        const lines = readFileSync(host.path('agent.log'), 'utf8').trimEnd().split('\n')
        const told = lines.filter((line) => !line.includes('"msg":"access"'))
        const enter = host.place.enter(['COMMAND']).join(' ')
        return [`--- agent of ${host.name}; to look: ${enter}`, ...told.slice(-15)]
      })
      .join('\n')
  }
}
