/**
 * Owns a whole mesh on this machine: places, a controller, a store, hosts with an agent each.
 * The demo and tests drive it; it tells no story. Everything it makes is gone after `stop` or `kill`.
 */

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { Child } from './child.ts'
import { DemoHost } from './demo-host.ts'
import type { Machine } from './machine.ts'
import { makePlaces, type Places } from './place.ts'
import { waitFor } from './wait-for.ts'

/** What a world is made with. */
export interface WorldParts {
  readonly machine: Machine
  /** A remark for the person who watches. */
  readonly say: (line: string) => void
}

/** Settings of a world. */
export interface WorldSettings {
  /** The checkout. */
  readonly root: string
  readonly store: 'embedded' | 'etcd'
  readonly leafTtlSeconds: number
  /** How many hosts, two to eight. @default 2 */
  readonly hosts?: number
  /** Keys of the agents' configs that differ from the demo's. */
  readonly agentConfig?: Readonly<Record<string, unknown>>
  /** What stands before the agents' commands. */
  readonly agentIn?: readonly string[]
  /** Whether the files stay for a look. @default false */
  readonly keepFiles?: boolean
}

const apiPort = 15010
const etcdPort = 15379

/** See the header. */
export class World {
  readonly directory: string
  readonly hosts: readonly [DemoHost, DemoHost, ...DemoHost[]]
  readonly #parts: WorldParts
  readonly #settings: WorldSettings
  readonly #places: Places
  readonly #children: Child[] = []

  /** Makes places and directories; nothing runs yet. */
  constructor(parts: WorldParts, settings: WorldSettings) {
    this.#parts = parts
    this.#settings = settings
    sweep(parts.machine)
    this.directory = mkdtempSync(join(tmpdir(), `hostmesh-demo-${parts.machine.pid}-`))
    this.#places = makePlaces(parts, settings.hosts)
    const [alpha, beta, ...others] = this.#places.hosts
    const host = (place: typeof alpha): DemoHost =>
      new DemoHost(
        { machine: parts.machine, place },
        {
          directory: join(this.directory, place.name),
          controller: `${this.#places.controller}:${apiPort}`,
          agent: join(settings.root, 'agent/main.ts'),
          ...(settings.agentConfig === undefined ? {} : { agentConfig: settings.agentConfig }),
          ...(settings.agentIn === undefined ? {} : { agentIn: settings.agentIn }),
        },
      )
    this.hosts = [host(alpha), host(beta), ...others.map(host)]
  }

  /** Where the hosts are. */
  get kind(): Places['kind'] {
    return this.#places.kind
  }

  /** The network namespace that holds the switch between the hosts; empty where there is none. */
  get namespace(): string {
    return this.#places.namespace
  }

  /** The credential with which `meshctl` may talk to the controller. */
  get operatorFile(): string {
    return join(this.directory, 'controller/state/operator.json')
  }

  /** Where the etcd of a world with one of its own is reached, from within its places. */
  get etcdUrl(): string {
    return `http://${this.#places.controller}:2379`
  }

  /**
   * Starts the store where it is not embedded, then the controller, and waits until it answers.
   * `other.store` is a store that runs already.
   */
  async startController(other: { readonly store?: string } = {}): Promise<void> {
    const { store } = this.#settings
    const at = join(this.directory, 'controller')
    mkdirSync(at, { recursive: true })
    if (store === 'etcd') this.#startEtcd(at)
    const address = this.#places.controller
    const config = {
      name: 'controller',
      advertise: address,
      listen: {
        api: `${address}:${apiPort}`,
        store: `${address}:${etcdPort}`,
        metrics: `${address}:15014`,
      },
      store: other.store ?? (store === 'etcd' ? this.etcdUrl : 'embedded'),
      storeInsecure: true,
      state: join(at, 'state'),
      leafTtlSeconds: this.#settings.leafTtlSeconds,
    }
    writeFileSync(join(at, 'controller.json'), `${JSON.stringify(config, null, 2)}\n`)
    const main = join(this.#settings.root, 'controller/main.ts')
    const words = [main, '--config', join(at, 'controller.json')]
    this.#start('controller', [this.#parts.machine.node, ...words], join(at, 'controller.log'))
    await this.until('the controller answers', async () => (await this.meshctl('host', 'list')).ok)
  }

  /** Ends the controller, and with it a store embedded in it, by a signal. */
  async endController(signal: NodeJS.Signals): Promise<void> {
    const at = this.#children.findIndex(({ name }) => name === 'controller')
    const [controller] = at < 0 ? [] : this.#children.splice(at, 1)
    controller?.signal(signal)
    await controller?.ended
  }

  /** Makes a join token for each host, starts its agent and waits until all are ready. */
  async startAgents(): Promise<void> {
    await Promise.all(
      this.hosts.map(async (host) => {
        const made = await this.meshctl('token', 'create', host.name, '--service', '*')
        if (!made.ok) throw new MeshError(`no join token: ${made.output}`, { code: 'demo-token' })
        host.startAgent(made.output.trim())
        await this.until(
          `the agent on ${host.name} is ready`,
          async () => (await host.admin.ask('status')).ready,
          // A crowded machine starts many programs at once.
          90_000,
        )
      }),
    )
  }

  /** Runs `meshctl` against the controller, where it can be reached. */
  async meshctl(
    ...words: readonly string[]
  ): Promise<{ readonly ok: boolean; readonly output: string }> {
    const lines: string[] = []
    const { node } = this.#parts.machine
    const main = join(this.#settings.root, 'cli/main.ts')
    const child = new Child(
      { place: this.#places.hosts[0], machine: this.#parts.machine },
      {
        name: 'meshctl',
        command: [node, main, '--credential', this.operatorFile, ...words],
        logFile: join(this.directory, 'meshctl.log'),
        onLine: (line) => lines.push(line),
      },
    )
    this.#children.push(child)
    const { code } = await child.ended
    this.#children.splice(this.#children.indexOf(child), 1)
    return { ok: code === 0, output: code === 0 ? lines.join('\n') : child.tail(2) }
  }

  /**
   * Waits until `holds` answers true; what it throws counts as not yet.
   * @throws MeshError `demo-fallen` with the log of a program that has ended, `demo-deadline`
   */
  until(what: string, holds: () => boolean | Promise<boolean>, deadlineMs = 60_000): Promise<void> {
    return waitFor(what, holds, {
      deadlineMs,
      lost: () => {
        const gone = this.#programs().find(({ ending }) => ending !== null)
        return gone === undefined ? '' : `${gone.name} has ended:\n${gone.tail()}`
      },
      logs: () =>
        this.#programs()
          .map((child) => `--- ${child.name}\n${child.tail()}`)
          .join('\n'),
    })
  }

  /** Ends everything in good order and removes every trace. */
  async stop(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.stop(5000)))
    await Promise.all(this.#children.map((child) => child.stop(3000)))
    this.kill()
  }

  /** Ends everything at once and removes every trace; for exits that cannot wait. */
  kill(): void {
    for (const host of this.hosts) host.kill()
    for (const child of this.#children) child.kill()
    this.#places.remove()
    if (this.#settings.keepFiles !== true)
      rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 })
  }

  /** Everything that must not end by itself; services may, they are killed on purpose. */
  #programs(): Child[] {
    return [
      ...this.#children.filter(({ name }) => name !== 'meshctl'),
      ...this.hosts.flatMap(({ agent }) => agent ?? []),
    ]
  }

  #startEtcd(at: string): void {
    const url = this.etcdUrl
    this.#start(
      'etcd',
      [
        'etcd',
        '--data-dir',
        join(at, 'etcd'),
        '--listen-client-urls',
        url,
        '--advertise-client-urls',
        url,
        '--listen-peer-urls',
        `http://${this.#places.controller}:0`,
        '--log-level',
        'warn',
      ],
      join(at, 'etcd.log'),
    )
  }

  #start(name: string, command: readonly [string, ...string[]], logFile: string): void {
    const parts = { place: this.#places.hosts[0], machine: this.#parts.machine }
    this.#children.push(new Child(parts, { name, command, logFile }))
  }
}

/** Removes the files of demos that were killed. */
function sweep({ isAlive }: Machine): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^hostmesh-demo-(\d+)-/.exec(name)?.[1]
    if (pid === undefined || isAlive(Number(pid))) continue
    try {
      rmSync(join(tmpdir(), name), { recursive: true, force: true })
    } catch {
      // Another user's; theirs to remove.
    }
  }
}
