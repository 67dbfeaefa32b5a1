/**
 * The events of hosts: one that is lost without a word, one whose service is taken away by its file,
 * one whose service ends. Callers elsewhere go on with those that are left.
 */

import { execFileSync } from 'node:child_process'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { seenBy } from '#test/soak/membership-watch.ts'
import { SoakMesh, type SoakSettings } from '#test/soak/soak.ts'
import { lostAt } from '#test/support/far-hosts.ts'

/** GOALS: how long a lost host may be in rotation, milliseconds. */
const lossGoalMs = 2000
const ordersPort = 8080
/** No caller waits longer than that for an answer. */
const patienceMs = 2500

/** Runs all of them. */
export async function hosts(settings: SoakSettings): Promise<void> {
  const mesh = await SoakMesh.raise(settings, { leafTtlSeconds: 86_400 })
  try {
    const full = settings.size === 'full'
    const soak = new HostSoak(mesh, full)
    settings.say('a host is lost')
    await soak.lose(full ? 20 : 5, full ? lossGoalMs : lossGoalMs * 3)
    settings.say('a service is taken away by its file')
    await soak.drain(full ? 20 : 5, 'file removed')
    settings.say('a service is stopped')
    await soak.drain(full ? 20 : 5, 'service stopped')
  } finally {
    await mesh.stop()
  }
}

class HostSoak {
  readonly #mesh: SoakMesh
  /** In the brief form what happens is what costs time, not what happens in between. */
  readonly #full: boolean

  constructor(mesh: SoakMesh, full: boolean) {
    this.#mesh = mesh
    this.#full = full
  }

  /**
   * Cuts a host's cable. Its own callers, and those of what only it has, are none of those who must
   * notice nothing.
   */
  async lose(times: number, goalMs: number): Promise<void> {
    const mesh = this.#mesh
    const lost = mesh.host('delta')
    // Gamma calls a service that only the lost host has.
    const rest = (host: string): boolean => host !== lost.name && host !== 'gamma'
    const others = mesh.world.hosts.filter(({ name }) => rest(name))
    let [failed, requests, longest] = [0, 0, 0]
    for (let time = 0; time < times; time++) {
      // On a crowded machine a host may be thought lost that is not.
      for (const host of others) await this.#calls(host, lost)
      const meanwhile = mesh.load.stretch(rest)
      const cutAt = Date.now()
      link(lost, 'down')
      for (const host of others) {
        await mesh.until(`${host.name} has taken it out`, () => lostAt(host, lost) !== null)
        longest = Math.max(longest, (lostAt(host, lost) ?? Infinity) - cutAt)
      }
      // What was under way then has ended by now, one way or the other.
      await sleep(patienceMs)
      const cost = meanwhile()
      mesh.say(`  hosts-loss: ${cost.failed} of ${cost.requests} requests failed when it was lost`)
      const after = mesh.load.stretch(rest)
      await mesh.more(rest)
      link(lost, 'up')
      await mesh.until('it is called again', () => {
        return mesh.load.lastAnswerMs(lost.name, rest) > Date.now() - 500
      })
      for (const host of mesh.world.hosts.filter((host) => host !== lost)) {
        await this.#calls(host, lost)
        // Cut off as it was, it thinks the others lost.
        await this.#calls(lost, host)
      }
      if (this.#full) await mesh.more(rest)
      const end = after()
      for (const failure of end.failures) mesh.say(`  hosts-loss: ${failure}`)
      failed += end.failed
      requests += end.requests
    }
    const most = `the longest of ${times}`
    mesh.atMost('hosts-loss', `ms until it is out of rotation everywhere, ${most}`, longest, goalMs)
    mesh.atMost('hosts-loss', `failed of ${requests} requests after that`, failed, 0)
  }

  /** Takes one host's copy of a service away, and brings it back. */
  async drain(times: number, how: 'file removed' | 'service stopped'): Promise<void> {
    const mesh = this.#mesh
    // What failed of calls to a host that was away is no business of this.
    await mesh.more()
    const end = mesh.load.stretch()
    const { hosts } = mesh.world
    for (let time = 0; time < times; time++) {
      const host = hosts[time % hosts.length] ?? hosts[0]
      const one = `orders@${host.name}`
      const manifest = { port: ordersPort, address: host.place.local }
      if (how === 'file removed') host.removeManifest('orders')
      else await mesh.services.get(one)?.stop(3000)
      await this.#until(`${one} is gone`, (seen) => !seen.has(one))
      if (this.#full) await mesh.more()
      if (how === 'file removed') host.dropManifest('orders', manifest)
      else mesh.serve(host, 'orders', ordersPort)
      await this.#until(`${one} is back`, (seen) => seen.has(one))
      if (this.#full) await mesh.more()
    }
    await mesh.more()
    mesh.noneFailed('hosts-drain', `${how}, ${times} times`, end())
  }

  /** Waits until a host knows another one and does not think it lost. */
  async #calls(host: DemoHost, other: DemoHost): Promise<void> {
    await this.#mesh.until(`${host.name} calls ${other.name}`, async () => {
      return (await seenBy(host)).has(`orders@${other.name}`) && lostAt(host, other) === null
    })
  }

  async #until(what: string, holds: (seen: ReadonlyMap<string, number>) => boolean): Promise<void> {
    for (const host of this.#mesh.world.hosts) {
      await this.#mesh.until(`${what} on ${host.name}`, async () => holds(await seenBy(host)))
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}

function link(host: DemoHost, state: 'up' | 'down'): void {
  const [program = '', ...words] = host.place.enter(['ip', 'link', 'set', 'eth0', state])
  execFileSync(program, words)
}
