/**
 * The events of the store: a real etcd of three nodes that loses its leader, most of its nodes or a
 * cable, hangs, is compacted while a host is away, or is restored from a backup. Callers must notice
 * nothing, nobody who is there may be removed, and all must agree again soon after.
 */

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { MembershipWatch, seenBy } from '#test/soak/membership-watch.ts'
import { SoakMesh, type SoakSettings } from '#test/soak/soak.ts'
import { thisMachine } from '#test/support/this-machine.ts'

/** GOALS: how long after the return of what was away all hosts agree, milliseconds. */
const goalMs = 5000
/** A lease's life, and the time to be sure of its end and of what is made of it. */
const lapsedMs = 20_000
/** How long a record that only a backup knows may live: a lease and the grace after it. */
const ghostMs = 30_000
/** The hosts whose records change while the store is away; the second is the one that is cut off. */
const changing = ['beta', 'gamma'] as const

interface Event {
  readonly name: string
  readonly what: string
  readonly times: number
  /** Does it and undoes it; answers how long after the return all hosts agreed, milliseconds. */
  readonly happens: (time: number, change: () => void) => Promise<number>
}

/** Runs all of them. */
export async function store(settings: SoakSettings): Promise<void> {
  const mesh = await SoakMesh.raise(settings, { leafTtlSeconds: 86_400, store: 'cluster' })
  try {
    const full = settings.size === 'full'
    const soak = new StoreSoak(mesh, full)
    const times = full ? 20 : 5
    /** Long enough for leases to lapse, each time or, in the brief form, once. */
    const long = (time: number): number => (full || time === 0 ? lapsedMs : 300)
    const short = full ? 12_000 : 600
    for (const event of [
      soak.leaderKilled(times),
      soak.quorumLost(times, short),
      soak.agentCutOff(full ? 8 : 5, long),
      soak.nodeCutOff(times, short),
      soak.nodeFrozen(times, short),
      soak.compacted(times, short / 2),
      soak.restored(5),
    ]) {
      settings.say(event.what)
      await soak.run(event)
    }
  } finally {
    await mesh.stop()
  }
}

class StoreSoak {
  readonly #mesh: SoakMesh
  readonly #full: boolean
  #weight = 100

  constructor(mesh: SoakMesh, full: boolean) {
    this.#mesh = mesh
    this.#full = full
  }

  async run({ name, what, times, happens }: Event): Promise<void> {
    const mesh = this.#mesh
    const { hosts } = mesh.world
    const wanted = hosts.flatMap((host) => [
      `orders@${host.name}`,
      `alone-${host.name}@${host.name}`,
    ])
    const watch = new MembershipWatch(hosts, { wanted })
    const end = mesh.load.stretch()
    const tookMs: number[] = []
    for (let time = 0; time < times; time++) {
      tookMs.push(await happens(time, () => this.#change()))
      if (this.#full) await mesh.more()
    }
    await mesh.more()
    mesh.noneFailed(name, `${what}, ${times} times`, end())
    const { missing, rounds } = await watch.stop()
    for (const one of missing) mesh.say(`  ${name}: ${one}`)
    mesh.atMost(name, `instances wrongly removed, in ${rounds} looks`, missing.length, 0)
    const longest = Math.round(Math.max(...tookMs))
    mesh.atMost(
      name,
      'ms until all hosts agree after its return, the longest',
      longest,
      this.#full ? goalMs : goalMs * 3,
    )
  }

  leaderKilled(times: number): Event {
    const { cluster } = this.#mesh
    const happens: Event['happens'] = async (_, change) => {
      const leader = await cluster.leader()
      await leader.kill()
      change()
      await cluster.leader(cluster.nodes.filter((node) => node !== leader))
      const tookMs = await this.#agree()
      cluster.start(leader)
      await cluster.serves()
      return tookMs
    }
    return { name: 'store-leader', what: 'the leader killed', times, happens }
  }

  quorumLost(times: number, forMs: number): Event {
    const { cluster } = this.#mesh
    const happens: Event['happens'] = async (time, change) => {
      const lost = cluster.nodes.filter((_, index) => index !== time % cluster.nodes.length)
      await Promise.all(lost.map((node) => node.kill()))
      change()
      await sleep(forMs)
      for (const node of lost) cluster.start(node)
      await cluster.serves()
      return this.#agree()
    }
    return { name: 'store-quorum', what: 'two nodes of three lost', times, happens }
  }

  agentCutOff(times: number, forMs: (time: number) => number): Event {
    const { cluster } = this.#mesh
    const host = this.#mesh.host(changing[1])
    const happens: Event['happens'] = async (time, change) => {
      cutOff(
        host,
        cluster.nodes.map(({ address }) => address),
      )
      change()
      await sleep(forMs(time))
      takeBack(host)
      return this.#agree()
    }
    return { name: 'store-partition', what: 'one host cut off from the store', times, happens }
  }

  nodeCutOff(times: number, forMs: number): Event {
    const { cluster } = this.#mesh
    const happens: Event['happens'] = async (time, change) => {
      // The leader in turn with the others.
      const node = time % 2 === 0 ? await cluster.leader() : cluster.nodes[time % 3]
      node?.link('down')
      change()
      await sleep(forMs)
      node?.link('up')
      await cluster.serves()
      return this.#agree()
    }
    return { name: 'store-node-cut', what: 'one node cut off from everybody', times, happens }
  }

  nodeFrozen(times: number, forMs: number): Event {
    const { cluster } = this.#mesh
    const happens: Event['happens'] = async (time, change) => {
      const node = time % 2 === 0 ? await cluster.leader() : cluster.nodes[time % 3]
      node?.freeze()
      change()
      await sleep(forMs)
      node?.thaw()
      await cluster.serves()
      return this.#agree()
    }
    return { name: 'store-frozen', what: 'one node stopped by SIGSTOP', times, happens }
  }

  compacted(times: number, forMs: number): Event {
    const { cluster } = this.#mesh
    const host = this.#mesh.host(changing[1])
    const [node] = cluster.nodes
    const happens: Event['happens'] = async (_, change) => {
      cutOff(
        host,
        cluster.nodes.map(({ address }) => address),
      )
      change()
      await sleep(forMs)
      const put = node?.etcdctl('put', '/mesh/v1/later/soak', 'x', '-w', 'json') ?? ''
      const { header } = JSON.parse(put) as { readonly header: { readonly revision: number } }
      node?.etcdctl('compact', '--physical', String(header.revision))
      takeBack(host)
      return this.#agree()
    }
    return { name: 'store-compacted', what: 'compacted while one host is away', times, happens }
  }

  restored(times: number): Event {
    const mesh = this.#mesh
    const { cluster } = mesh
    const host = mesh.host('delta')
    const ghostPort = 8082
    const happens: Event['happens'] = async (time, change) => {
      const name = `ghost-${time}`
      const file = join(mesh.world.directory, `backup-${time}`)
      const ghost = mesh.serve(host, name, ghostPort)
      host.dropManifest(name, { port: ghostPort, address: host.place.local })
      await this.#until(`${name} is there`, (seen) => seen.has(`${name}@${host.name}`))
      cluster.nodes[0]?.etcdctl('snapshot', 'save', file)
      host.removeManifest(name)
      change()
      await this.#until(`${name} is gone`, (seen) => !seen.has(`${name}@${host.name}`))
      await ghost.stop(3000)
      await this.#agree()
      await cluster.restore(file)
      const backAt = Date.now()
      const agreedMs = await this.#agree()
      if (!this.#full) return agreedMs
      await this.#until(`${name} is gone again`, (seen) => !seen.has(`${name}@${host.name}`))
      const tookMs = Date.now() - backAt
      mesh.atMost(
        'store-restored',
        'ms until a record of the backup alone is gone',
        tookMs,
        ghostMs,
      )
      return agreedMs
    }
    return { name: 'store-restored', what: 'restored from an older backup', times, happens }
  }

  /** Another weight on two hosts, for the others to hear of. */
  #change(): void {
    this.#weight += 1
    for (const name of changing) {
      const { place } = this.#mesh.host(name)
      const manifest = { port: 8080, address: place.local, weight: this.#weight }
      this.#mesh.host(name).dropManifest('orders', manifest)
    }
  }

  /** Waits until every host has its store and knows the newest weights; how long, milliseconds. */
  async #agree(): Promise<number> {
    const sinceMs = Date.now()
    const { hosts } = this.#mesh.world
    for (const host of hosts) {
      await this.#mesh.until(`${host.name} has its store`, async () => {
        return (await host.admin.ask('status')).store.kind === 'up'
      })
    }
    await this.#until('all know the newest weights', (seen) =>
      changing.every((name) => seen.get(`orders@${name}`) === this.#weight),
    )
    return Date.now() - sinceMs
  }

  async #until(what: string, holds: (seen: ReadonlyMap<string, number>) => boolean): Promise<void> {
    for (const host of this.#mesh.world.hosts) {
      await this.#mesh.until(`${what} on ${host.name}`, async () => holds(await seenBy(host)))
    }
  }
}

/** Drops every packet between a host and some addresses, both ways. */
function cutOff(host: DemoHost, addresses: readonly string[]): void {
  const set = `{ ${addresses.join(', ')} }`
  nft(
    host,
    `add table inet soak
     add chain inet soak out { type filter hook output priority -500; }
     add chain inet soak in { type filter hook input priority -500; }
     add rule inet soak out ip daddr ${set} drop
     add rule inet soak in ip saddr ${set} drop`,
  )
}

function takeBack(host: DemoHost): void {
  nft(host, 'delete table inet soak')
}

function nft(host: DemoHost, rules: string): void {
  const [program = '', ...words] = host.place.enter(['nft', '-f', '-'])
  execFileSync(program, words, { input: rules, env: { ...thisMachine.environment } })
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}
