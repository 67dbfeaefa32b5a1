/** Owns the scenario of added latency at a fixed, open-loop rate. */

import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Bench, Contender } from '#test/bench/bench.ts'
import type { OpenLoopResult } from '#test/bench/open-loop.ts'
import type { Result } from '#test/bench/result.ts'
import { cores, wayFrom, type Way } from '#test/bench/site.ts'
import { wrk } from '#test/bench/wrk.ts'

/** A peer's added time counts as at least this, so that a ratio means something. */
const floorMicros = 100
const connections = 16
const goals = { nginx: 1.3, envoy: 0.8 } as const

/** Added p50 and p99 of a cross-host call over a direct one, 1,000 requests a second. */
export async function latency(bench: Bench): Promise<Result[]> {
  const mesh = await bench.mesh()
  const { near, far, origin } = await bench.site()
  const direct = wayFrom(near, { address: far.address, port: origin.http.port })
  const ours: Contender = { name: 'hostmesh', way: mesh.cross('orders'), pids: () => mesh.pids }
  const peers = [await bench.nginxPair(), await bench.envoyPair('http')].filter(
    (one) => one !== null,
  )
  bench.settings.say('latency: added µs at 1,000 requests a second, 16 connections')
  const { seconds } = bench.settings
  for (const one of [ours, ...peers]) {
    await bench.warm(one, (way) => wrk({ way, connections, seconds }))
  }
  let failures = 0
  const samples = new Map<string, { p50: number[]; p99: number[] }>()
  for (let round = 0; round <= bench.settings.rounds; round++) {
    const base = await load(bench, direct)
    for (const { name, way } of [ours, ...peers]) {
      const result = await load(bench, way)
      // The first round only warms up.
      if (round === 0) continue
      failures += result.errors
      const sample = samples.get(name) ?? { p50: [], p99: [] }
      sample.p50.push(result.p50 - base.p50)
      sample.p99.push(result.p99 - base.p99)
      samples.set(name, sample)
      const words = `p50 +${sample.p50.at(-1)?.toFixed(0)} p99 +${sample.p99.at(-1)?.toFixed(0)}`
      bench.settings.say(`  round ${round} ${name}: ${words} µs, ${result.errors} errors`)
    }
  }
  return peers.flatMap(({ name }) =>
    (['p50', 'p99'] as const).map((quantile) => {
      const mine = median(samples.get('hostmesh')?.[quantile] ?? [])
      const peer = Math.max(floorMicros, median(samples.get(name)?.[quantile] ?? []))
      const ratio = mine / peer
      const goal = name === 'nginx' || name === 'envoy' ? goals[name] : null
      return {
        name: 'latency',
        metric: `added ${quantile}, µs`,
        ours: mine,
        peer,
        peerName: name,
        ratio,
        goal,
        ok: failures === 0 && (goal === null || ratio <= goal),
        capture: bench.capture,
      }
    }),
  )
}

async function load(bench: Bench, { at, enter }: Way): Promise<OpenLoopResult> {
  const program = join(import.meta.dirname, '../open-loop.ts')
  const words = [program, at.address, String(at.port), String(bench.settings.seconds)]
  const [command = '', ...args] = enter(['taskset', '-c', String(cores.load), process.execPath])
  const { stdout } = await promisify(execFile)(command, [...args, ...words])
  return JSON.parse(stdout) as OpenLoopResult
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
