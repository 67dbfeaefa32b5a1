/**
 * Owns a real etcd of three nodes for tests, each in a network namespace of its own on the bridge of
 * a demo's world: nodes can be killed, frozen, cut off and restored from a backup. Root only.
 */

import { execFileSync, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { EtcdProgram, etcdWords } from './etcd-program.ts'
import { until } from './until.ts'

/** Settings of a cluster. */
export interface EtcdClusterSettings {
  /** For the nodes' data and logs; exists. */
  readonly directory: string
  /** The namespace whose `eth0` is the bridge of the world. */
  readonly bridge: string
}

const names = ['e1', 'e2', 'e3'] as const
const patience = { withinMs: 60_000 }

/** One node. */
export class EtcdNode extends EtcdProgram {
  readonly name: string
  readonly address: string
  readonly #namespace: string
  readonly #directory: string
  readonly #bridge: string

  constructor(name: string, index: number, { directory, bridge }: EtcdClusterSettings) {
    super()
    this.name = name
    this.address = `10.204.0.${101 + index}`
    this.#namespace = `${bridge}-${name}`
    this.#directory = join(directory, name)
    this.#bridge = bridge
    ip('netns', 'add', this.#namespace)
    const cable = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', this.#namespace]
    ip('-n', bridge, 'link', 'add', name, ...cable)
    ip('-n', bridge, 'link', 'set', name, 'master', 'eth0', 'up')
    ip('-n', this.#namespace, 'address', 'add', `${this.address}/24`, 'dev', 'eth0')
    for (const link of ['lo', 'eth0']) ip('-n', this.#namespace, 'link', 'set', link, 'up')
  }

  /** Where clients reach it. */
  get url(): string {
    return `http://${this.address}:2379`
  }

  /** Where its data is. */
  get dataDirectory(): string {
    return join(this.#directory, 'data')
  }

  /** Starts it with the data it has. It serves once most nodes run. */
  start(cluster: string): void {
    mkdirSync(this.#directory, { recursive: true })
    const words = [
      `--name=${this.name}`,
      ...etcdWords({
        dataDirectory: this.dataDirectory,
        client: this.url,
        listen: `${this.url},http://127.0.0.1:2379`,
        peer: `http://${this.address}:2380`,
        cluster,
      }),
      '--log-level=warn',
    ]
    const log = openSync(join(this.#directory, 'log'), 'a')
    const bound = ['--pdeathsig', 'KILL', 'etcd']
    const enter = [`--net=/run/netns/${this.#namespace}`, 'setpriv', ...bound]
    this.runs(spawn('nsenter', [...enter, ...words], { stdio: ['ignore', log, log] }))
    closeSync(log)
  }

  /** Cuts it off from everybody, or takes it back. */
  link(state: 'up' | 'down'): void {
    ip('-n', this.#bridge, 'link', 'set', this.name, state)
  }

  /** Runs `etcdctl` against this node alone, from its own place. */
  etcdctl(...words: readonly string[]): string {
    const enter = [`--net=/run/netns/${this.#namespace}`, 'etcdctl']
    return execFileSync('nsenter', [...enter, ...words], {
      encoding: 'utf8',
      env: { ...process.env, ETCDCTL_API: '3' },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 20_000,
    })
  }

  /** Whether it says that it leads. */
  leads(): boolean {
    const [status] = JSON.parse(this.etcdctl('endpoint', 'status', '-w', 'json')) as readonly [
      { readonly Status: { readonly leader: number; readonly header: { member_id: number } } },
    ]
    return status.Status.leader === status.Status.header.member_id
  }

  /** The end of its log. */
  get tail(): string {
    return readFileSync(join(this.#directory, 'log'), 'utf8').split('\n').slice(-15).join('\n')
  }

  /** Removes its place. */
  remove(): void {
    quietly(() => ip('netns', 'delete', this.#namespace))
  }
}

/** See the header. */
export class EtcdCluster {
  readonly nodes: readonly EtcdNode[]

  private constructor(settings: EtcdClusterSettings) {
    this.nodes = names.map((name, index) => new EtcdNode(name, index, settings))
  }

  /** Makes the nodes' places, starts them and waits until they serve. */
  static async start(settings: EtcdClusterSettings): Promise<EtcdCluster> {
    const cluster = new EtcdCluster(settings)
    try {
      for (const node of cluster.nodes) cluster.start(node)
      await cluster.serves()
    } catch (error) {
      await cluster.stop()
      throw error
    }
    return cluster
  }

  /** Every node, as the controller's configuration wants it. */
  get urls(): string {
    return this.nodes.map(({ url }) => url).join()
  }

  /** Starts a node with the data it has. */
  start(node: EtcdNode): void {
    node.start(this.nodes.map(({ name, address }) => `${name}=http://${address}:2380`).join())
  }

  /** Waits until every one of `nodes` answers a read that needs most of the nodes. */
  async serves(nodes = this.nodes): Promise<void> {
    for (const node of nodes) {
      await until(
        `etcd serves at ${node.name}`,
        () => quietly(() => node.etcdctl('get', 'nothing', '--command-timeout=1s')),
        patience,
      )
    }
  }

  /** Waits until one of `nodes` leads. */
  async leader(nodes = this.nodes): Promise<EtcdNode> {
    return until(
      'etcd has a leader',
      () => nodes.find((node) => quietly(() => check(node.leads()))),
      patience,
    )
  }

  /** Ends all nodes and starts them again with what a backup holds. */
  async restore(file: string): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()))
    const cluster = this.nodes.map(({ name, address }) => `${name}=http://${address}:2380`).join()
    for (const node of this.nodes) {
      rmSync(node.dataDirectory, { recursive: true, force: true })
      node.etcdctl(
        'snapshot',
        'restore',
        file,
        '--name',
        node.name,
        '--data-dir',
        node.dataDirectory,
        '--initial-cluster',
        cluster,
        '--initial-advertise-peer-urls',
        `http://${node.address}:2380`,
      )
    }
    for (const node of this.nodes) this.start(node)
    await this.serves()
  }

  /** Ends all nodes and removes their places. */
  async stop(): Promise<void> {
    for (const node of this.nodes) node.thaw()
    await Promise.all(this.nodes.map((node) => node.kill()))
    for (const node of this.nodes) node.remove()
  }
}

function check(holds: boolean): void {
  if (!holds) throw new Error('it does not hold')
}

function ip(...words: readonly string[]): void {
  execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'pipe'] })
}

function quietly(run: () => unknown): boolean {
  try {
    run()
    return true
  } catch {
    return false
  }
}
