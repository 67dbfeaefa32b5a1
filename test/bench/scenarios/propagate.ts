/**
 * Owns the scenario of propagation: from a manifest dropped to the first request answered, through
 * another host and on the service's own, while many services are known.
 */

import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ports, type DemoHost } from '#cli/demo/demo-host.ts'
import { World } from '#cli/demo/world.ts'
import type { Bench } from '#test/bench/bench.ts'
import type { Result } from '#test/bench/result.ts'
import { call } from '#test/support/callers.ts'
import { thisMachine } from '#test/support/this-machine.ts'

const dropCount = 60
/** GOALS: milliseconds. */
const goals = { far: 500, own: 300 } as const

/** Drops manifests one after the other and calls each service until it answers. */
export async function propagate(bench: Bench): Promise<Result[]> {
  const origin = createServer((_, response) => response.end('here'))
  // Every service has an address of its own on the one port.
  await new Promise<void>((resolve) => origin.listen(0, '0.0.0.0', resolve))
  const { port } = origin.address() as AddressInfo
  const { profile, services: known } = bench.settings
  const environment = {
    ...thisMachine.environment,
    ...(profile === null ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profile}` }),
  }
  const world = new World(
    { machine: { ...thisMachine, isRoot: false, environment }, say: () => {} },
    {
      root: join(import.meta.dirname, '../../..'),
      store: 'embedded',
      leafTtlSeconds: 86_400,
      agentConfig: { accessLog: 'off' },
    },
  )
  try {
    bench.settings.say(`starting the mesh with ${known} services`)
    await world.startController()
    await world.startAgents()
    const [caller, callee] = world.hosts
    for (let i = 0; i < known; i++) {
      drop(callee, `known-${i}`, i, { port, health: { intervalMs: 60_000 } })
    }
    // Certificates are issued at the pace the controller allows a host.
    const isKnown = async (): Promise<boolean> => {
      const services = await caller.admin.ask('services')
      return services.filter(({ instances }) => instances.length > 0).length >= known
    }
    for (let tries = 0; !(await isKnown()); tries++) {
      if (tries > 300) throw new Error(`${known} services were not known within 5 minutes`)
      await sleep(1000)
    }
    bench.settings.say(`dropping ${dropCount} manifests twice`)
    const far = await measure(callee, caller, { port, known, kind: 'far' })
    const own = await measure(callee, callee, { port, known, kind: 'own' })
    for (const all of [far, own])
      for (const line of slowest(all, [callee, caller])) bench.settings.say(line)
    return [
      row(`p99 until answered through another host, ms, ${known} services`, far, 0.99, goals.far),
      row('median of the same, ms', far, 0.5, goals.far),
      row('p99 until answered on its own host, ms', own, 0.99, goals.own),
    ]
  } finally {
    await world.stop()
    origin.closeAllConnections()
    origin.close()
  }
}

/** A service that was dropped, and how long it took until it was answered. */
interface Drop {
  readonly name: string
  /** Milliseconds since the epoch. */
  readonly droppedAt: number
  readonly tookMs: number
}

/** Each drop on `callee` until the first answer through the forward proxy of `at`. */
async function measure(
  callee: DemoHost,
  at: DemoHost,
  settings: { readonly port: number; readonly known: number; readonly kind: string },
): Promise<readonly Drop[]> {
  const { port, known, kind } = settings
  const drops: Drop[] = []
  for (let i = 0; i < dropCount; i++) {
    const name = `${kind}-${i}`
    const target = {
      host: at.place.local,
      port: ports.forwardProxy,
      path: `http://${name}.mesh/`,
    }
    const droppedAt = performance.now()
    drop(callee, name, known + i, { port })
    while ((await call(target)).status !== 200) {
      const tookMs = performance.now() - droppedAt
      if (tookMs > 30_000) {
        const story = slowest([{ name, droppedAt: Date.now() - tookMs, tookMs }], [callee, at])
        throw new Error(`never answered: ${story.join()}`)
      }
      await sleep(2)
    }
    const tookMs = performance.now() - droppedAt
    drops.push({ name, droppedAt: Date.now() - tookMs, tookMs })
    rmSync(callee.path('mesh.d', `${name}.json`))
    // The watcher looks at changes together; each drop is to stand for itself.
    await sleep(100 + (i % 10) * 10)
  }
  return drops
}

/** Every manifest has an address of its own, so that no two claim one place. */
function drop(host: DemoHost, name: string, index: number, content: object): void {
  const address = `127.77.${index >> 8}.${index & 255}`
  const path = host.path('mesh.d', `${name}.json`)
  writeFileSync(`${path}.tmp`, JSON.stringify({ ...content, address }))
  renameSync(`${path}.tmp`, path)
}

/** The three that took longest, with what the logs of both hosts say of them and when. */
function slowest(drops: readonly Drop[], hosts: readonly DemoHost[]): readonly string[] {
  const logs = hosts.map((host) => ({
    name: host.name,
    lines: readFileSync(host.path('agent.log'), 'utf8').split('\n'),
  }))
  const worst = drops.toSorted((a, b) => b.tookMs - a.tookMs).slice(0, 3)
  return worst.map(({ name, droppedAt, tookMs }) => {
    // Whole names: `own-5` is neither `known-5` nor `own-52`.
    const isAbout = new RegExp(`["/]${name}(?:\\.json)?"`)
    const said = logs
      .flatMap((log) =>
        log.lines.filter((line) => isAbout.test(line)).map((line) => told(log, line)),
      )
      .sort((a, b) => a.at - b.at)
      .map(({ at, text }) => `${Math.round(at - droppedAt)} ${text}`)
    return `  ${name} took ${Math.round(tookMs)} ms: ${said.join('; ')}`
  })
}

/** A line of a log: when, in milliseconds since the epoch, on which host, and what. */
function told(log: { readonly name: string }, line: string): { at: number; text: string } {
  const { time, msg } = JSON.parse(line) as { readonly time: string | number; readonly msg: string }
  return { at: new Date(time).getTime(), text: `${log.name}: ${msg}` }
}

function row(metric: string, drops: readonly Drop[], quantile: number, goal: number): Result {
  const sorted = drops.map(({ tookMs }) => tookMs).toSorted((a, b) => a - b)
  const ours = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * quantile))] ?? 0
  return {
    name: 'propagate',
    metric,
    ours,
    peer: Number.NaN,
    peerName: '',
    ratio: Number.NaN,
    goal,
    ok: ours > 0 && ours <= goal,
  }
}
