/**
 * Owns the demo's story: what happens in which order, what a newcomer sees of it, and what it proves.
 * Every claim it makes is counted or read from the running mesh, never assumed.
 */

import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Child } from './child.ts'
import type { AccessLine, DemoHost } from './demo-host.ts'
import { ports } from './demo-host.ts'
import { prepareInstance, whoamiPath } from './instance.ts'
import type { LoadCount, Target } from './load.ts'
import type { Narrator } from './narrator.ts'
import type { World } from './world.ts'

/** What the demo proved. */
export interface DemoResult {
  readonly ok: boolean
  readonly requests: number
  readonly failed: number
  /** The first few failures, in words. */
  readonly failures: readonly string[]
  readonly hosts: number
  readonly mtls: boolean
  /** The caller's and the service's SPIFFE id, as the callee proved and recorded them. */
  readonly peerIds: readonly string[]
  readonly killedInstance: boolean
  readonly rotated: boolean
  readonly serials: readonly string[]
  readonly seconds: number
  readonly store: string
  readonly mode: string
}

/** What the story is told with. */
export interface StoryParts {
  readonly world: World
  readonly narrator: Narrator
}

/** Settings of the story. */
export interface StorySettings {
  readonly store: 'embedded' | 'etcd'
  /** Runs a role of the demo's own main file: `load` or `serve`. */
  readonly role: (name: 'load' | 'serve') => readonly [string, ...string[]]
}

const servicePort = 8080
const upstreamPort = 9001
/** Requests that must succeed before an act counts as carried. */
const enough = 150

/** Tells it from an empty machine to the last count. */
export class Story {
  readonly #world: World
  readonly #narrator: Narrator
  readonly #settings: StorySettings
  readonly #began = performance.now()
  #load: Child | null = null
  #count: LoadCount = { requests: 0, failed: 0, byHost: {}, byTarget: {}, failures: [] }

  constructor(parts: StoryParts, settings: StorySettings) {
    this.#world = parts.world
    this.#narrator = parts.narrator
    this.#settings = settings
  }

  /** The whole story. Throws MeshError where it cannot go on. */
  async tell(): Promise<DemoResult> {
    const [alpha, beta] = this.#world.hosts
    await this.#raise()
    const doomed = await this.#register(alpha, beta)
    const seen = await this.#call(beta)
    const killedInstance = await this.#kill(alpha, beta, doomed)
    const serials = await this.#rotate(beta)
    await this.#finish()
    const { requests, failed, failures } = this.#count
    const mtls = seen.every((line) => line.mtls)
    const peerIds = [...new Set(seen.flatMap(({ source, destination }) => [source, destination]))]
    const rotated = new Set(serials).size > 1
    return {
      ok: requests > 0 && failed === 0 && mtls && peerIds.length === 2 && killedInstance && rotated,
      requests,
      failed,
      failures,
      hosts: this.#world.hosts.length,
      mtls,
      peerIds: peerIds.map((id) => id ?? 'unknown'),
      killedInstance,
      rotated,
      serials,
      seconds: Math.round((performance.now() - this.#began) / 100) / 10,
      store: this.#settings.store,
      mode: this.#world.kind,
    }
  }

  async #raise(): Promise<void> {
    const { store } = this.#settings
    const where =
      this.#world.kind === 'namespaces' ? 'two network namespaces' : 'two loopback addresses'
    this.#narrator.chapter(`A mesh of two hosts, alpha and beta (${where})`)
    await this.#narrator.step(
      `controller with ${store === 'etcd' ? 'a real etcd' : 'its embedded store'} is up`,
      () => this.#world.startController(),
    )
    await this.#narrator.step('both hosts joined with a one-time token; agents are ready', () =>
      this.#world.startAgents(),
    )
  }

  /** Puts services and a caller into the mesh; answers the instance that will be killed. */
  async #register(alpha: DemoHost, beta: DemoHost): Promise<Child> {
    this.#narrator.chapter('Services join by dropping a file; they know nothing of the mesh')
    this.#startOrders(alpha, 'python3')
    const doomed = this.#startOrders(beta, 'nginx')
    for (const host of [alpha, beta]) {
      const { local } = host.place
      const address = local === '127.0.0.1' ? {} : { address: local }
      this.#drop(host, 'orders', { port: servicePort, ...address })
    }
    this.#drop(alpha, 'web', { upstreams: { orders: upstreamPort } })
    await this.#narrator.step('orders is known with both instances, and web may call it', () =>
      this.#world.until('alpha knows both instances of orders', async () => {
        const [services, status] = [
          await alpha.admin.ask('services'),
          await alpha.admin.ask('status'),
        ]
        const listeners = status.workers.flatMap((worker) => worker.listeners)
        return (
          services.some(({ name, instances }) => name === 'orders' && instances.length === 2) &&
          listeners.some(({ port, problem }) => port === upstreamPort && problem === '')
        )
      }),
    )
    return doomed
  }

  /** Sends traffic; answers what the callee's side recorded about it. */
  async #call(beta: DemoHost): Promise<readonly AccessLine[]> {
    this.#narrator.chapter('web on alpha calls orders, by plain HTTP')
    this.#startLoad()
    await this.#narrator.step('both hosts answer, by listener and by forward proxy', () =>
      this.#until(
        'both hosts answered',
        ({ byHost, byTarget }) =>
          ['alpha', 'beta'].every((name) => (byHost[name] ?? 0) >= enough / 3) &&
          Object.values(byTarget).every((count) => count >= enough / 3),
      ),
    )
    const inbound = (): readonly AccessLine[] =>
      beta
        .accessLines(500)
        .filter(({ direction, status }) => direction === 'inbound' && status === 200)
    await this.#world.until('beta recorded the calls', () => inbound().length > 0)
    const lines = inbound()
    const [line] = lines
    this.#narrator.say(
      `   beta answered as instance ${line?.instance ?? '?'} and proved its caller:`,
    )
    this.#narrator.say(`     caller   ${line?.source ?? '?'}`)
    this.#narrator.say(`     service  ${line?.destination ?? '?'}`)
    this.#narrator.say(`     mTLS     ${line?.mtls === true ? 'yes' : 'no'}`)
    return lines
  }

  /** Kills the instance on `victim`; answers whether the other one carried on alone. */
  async #kill(other: DemoHost, victim: DemoHost, doomed: Child): Promise<boolean> {
    this.#narrator.chapter('An instance is killed (kill -9) under load')
    const answers = (host: DemoHost): number => this.#count.byHost[host.name] ?? 0
    const before = this.#count
    const wanted = answers(other) + 2 * enough
    doomed.kill()
    await this.#narrator.step(
      `${victim.name}’s instance is gone; ${other.name}’s takes every request`,
      () => this.#until('the other takes over', () => answers(other) >= wanted),
    )
    await this.#narrator.step('health checks took it out of the mesh', () =>
      this.#world.until('the instance is taken out', async () => {
        const services = await other.admin.ask('services')
        return services.some(({ name, instances }) => name === 'orders' && instances.length === 1)
      }),
    )
    const failed = this.#count.failed - before.failed
    this.#narrator.say(`   failed requests: ${failed} of ${this.#count.requests - before.requests}`)
    const quiet = answers(victim)
    this.#startOrders(victim, 'nginx')
    await this.#narrator.step('started again, it is back in rotation', () =>
      this.#until('it answers again', () => answers(victim) > quiet + 10),
    )
    return doomed.ending !== null
  }

  /** Waits for a certificate to be replaced under traffic; answers the serials seen. */
  async #rotate(beta: DemoHost): Promise<readonly string[]> {
    this.#narrator.chapter(
      'Certificates rotate under traffic (they live 20 s here, 24 h by default)',
    )
    const serial = async (): Promise<string> => {
      const all = await beta.admin.ask('certificates')
      return all.find(({ identity }) => identity.endsWith('/service/orders'))?.serial ?? ''
    }
    const before = await serial()
    let after = before
    const counted = this.#count
    await this.#narrator.step('orders on beta has a new certificate', () =>
      this.#world.until('the certificate is replaced', async () => {
        after = await serial()
        return after !== '' && after !== before
      }),
    )
    const renewed = this.#count
    await this.#until(
      'traffic goes on',
      ({ byHost }) => (byHost['beta'] ?? 0) >= (renewed.byHost['beta'] ?? 0) + enough,
    )
    this.#narrator.say(`     before  ${before}`)
    this.#narrator.say(`     after   ${after}`)
    const failed = this.#count.failed - counted.failed
    this.#narrator.say(
      `   failed requests: ${failed} of ${this.#count.requests - counted.requests}`,
    )
    return [before, after]
  }

  async #finish(): Promise<void> {
    const load = this.#load
    this.#load = null
    await load?.stop(5000)
    const { requests, failed, failures } = this.#count
    this.#narrator.chapter(`${requests} requests, ${failed} failed`)
    if (failed === 0) return
    for (const failure of failures) this.#narrator.say(`   ${failure}`)
    const [alpha] = this.#world.hosts
    const lines = alpha.accessLines(Number.POSITIVE_INFINITY)
    for (const line of lines.filter(({ reason }) => reason !== 'ok').slice(0, 10))
      this.#narrator.say(`   ${JSON.stringify(line)}`)
  }

  #startOrders(host: DemoHost, prefer: 'nginx' | 'python3'): Child {
    const { what, command } = prepareInstance({
      service: 'orders',
      host: host.name,
      address: host.place.local,
      port: servicePort,
      directory: host.path('services'),
      prefer,
      fallback: this.#settings.role('serve'),
    })
    this.#narrator.say(`   ${host.name}: started orders (${what}) on port ${servicePort}`)
    return host.start('orders', command)
  }

  #drop(host: DemoHost, name: string, manifest: Readonly<Record<string, unknown>>): void {
    host.dropManifest(name, manifest)
    this.#narrator.say(`   ${host.name}: mesh.d/${name}.json  ${JSON.stringify(manifest)}`)
  }

  #startLoad(): void {
    const [alpha] = this.#world.hosts
    const { local } = alpha.place
    // Python's web server queues five connections and no more; the demo must not be what overruns it.
    const targets: readonly Target[] = [
      {
        name: 'listener',
        host: local,
        port: upstreamPort,
        path: whoamiPath,
        authority: `${local}:${upstreamPort}`,
        connections: 3,
      },
      {
        name: 'forward-proxy',
        host: local,
        port: ports.forwardProxy,
        path: `http://orders.mesh${whoamiPath}`,
        authority: 'orders.mesh',
        connections: 2,
      },
    ]
    this.#narrator.say(`   curl http://${local}:${upstreamPort}${whoamiPath}`)
    this.#narrator.say(
      `   http_proxy=http://${local}:${ports.forwardProxy} curl http://orders.mesh${whoamiPath}`,
    )
    const [node, ...words] = this.#settings.role('load')
    this.#load = alpha.start('load', [node, ...words, JSON.stringify(targets)], (line) => {
      this.#count = JSON.parse(line) as LoadCount
    })
  }

  /** Waits for the counts; a load that ends by itself is a failure of the demo. */
  async #until(what: string, holds: (count: LoadCount) => boolean): Promise<void> {
    try {
      await this.#world.until(what, () => holds(this.#count))
    } catch (error) {
      const load = `the clients counted ${JSON.stringify(this.#count)} ${this.#load?.tail() ?? ''}`
      throw new MeshError(`${messageOf(error)}\n${load}`, { code: 'demo-load', cause: error })
    }
  }
}
