/** Owns the scenarios whose load is wrk: local and cross-host HTTP, bulk, raw TCP, new connections. */

import { rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bench, Contender } from '#test/bench/bench.ts'
import { tellOfInstances } from '#test/bench/known-instances.ts'
import type { Result } from '#test/bench/result.ts'
import type { Way } from '#test/bench/site.ts'
import { wrk } from '#test/bench/wrk.ts'

interface WrkScenario {
  readonly connections: number
  readonly path?: string
  readonly script?: string
  readonly metric: string
  /** Goal by peer: our µs over theirs. */
  readonly goals: Readonly<Partial<Record<Contender['name'], number>>>
}

const closeScript = 'wrk.headers["Connection"] = "close"\n'
const uploadScript = 'wrk.method = "POST"\nwrk.body = string.rep("x", 1048576)\n'

async function compare(
  bench: Bench,
  name: string,
  contenders: readonly (Contender | null)[],
  scenario: WrkScenario,
): Promise<Result[]> {
  const present = contenders.filter((one) => one !== null)
  const { connections, path = '/', script, metric, goals } = scenario
  let scriptFile: string | undefined
  if (script !== undefined) {
    scriptFile = join(tmpdir(), `hostmesh-${process.pid}-${name}.lua`)
    writeFileSync(scriptFile, script)
  }
  let failures = 0
  const load = async (way: Way, isMeasured: boolean): Promise<number> => {
    const { requests, errors } = await wrk({
      way,
      path,
      connections,
      seconds: bench.settings.seconds,
      ...(scriptFile === undefined ? {} : { script: scriptFile }),
    })
    // What a peer fails at while it is warmed is in no figure.
    if (isMeasured || way === present[0]?.way) failures += errors
    if (errors > 0) bench.settings.say(`  ${errors} errors${isMeasured ? '' : ', not measured'}`)
    const { address, port } = way.at
    if (requests === 0) throw new Error(`${name}: nothing was answered at ${address}:${port}`)
    return requests
  }
  bench.settings.say(`${name}: ${metric}`)
  const medians = await bench.cpuPerWork(present, load)
  if (scriptFile !== undefined) rmSync(scriptFile, { force: true })
  const ours = medians.get(present[0] as Contender) ?? Number.NaN
  return present.slice(1).map((contender) => {
    const peer = medians.get(contender) ?? Number.NaN
    const goal = goals[contender.name] ?? null
    const ratio = ours / peer
    return {
      name,
      metric,
      ours,
      peer,
      peerName: contender.name,
      ratio,
      goal,
      // What an error costs is not what an answer costs.
      ok: failures === 0 && (goal === null || ratio <= goal),
      capture: bench.capture,
    }
  })
}

async function crossOf(bench: Bench, service: 'orders' | 'raw'): Promise<Contender> {
  const mesh = await bench.mesh()
  return { name: 'hostmesh', way: mesh.cross(service), pids: () => mesh.pids }
}

/** Same host, one agent. */
export async function http1Local(bench: Bench): Promise<Result[]> {
  const mesh = await bench.mesh()
  const ours: Contender = {
    name: 'hostmesh',
    way: mesh.local('orders'),
    pids: () => mesh.calleePids,
  }
  const peers = [await bench.nginxHop(), await bench.envoyHop()]
  const results = await compare(bench, 'http1-local', [ours, ...peers], {
    connections: 64,
    metric: 'µs CPU / request, 64 connections',
    goals: { nginx: 1.5, envoy: 0.75 },
  })
  return [...results, ...(await knowing(bench))]
}

/** Requests cost the same however much the mesh knows. */
async function knowing(bench: Bench): Promise<Result[]> {
  const [many, few] = [await bench.meshToTell(), await bench.meshToTell()]
  if (many === null || few === null) return []
  await tellOfInstances(many, 10_000)
  await tellOfInstances(few, 10)
  const contenders = [many, few].map((mesh, at): Contender => ({
    name: at === 0 ? 'hostmesh' : 'hostmesh with 10',
    way: mesh.local('orders'),
    pids: () => mesh.calleePids,
  }))
  return compare(bench, 'http1-local', contenders, {
    connections: 64,
    metric: 'µs CPU / request, 64 connections, 10,000 instances known',
    goals: { 'hostmesh with 10': 1.1 },
  })
}

/** Two hosts, mTLS between. */
export async function http1Cross(bench: Bench): Promise<Result[]> {
  const peers = [await bench.nginxPair(), await bench.envoyPair('http')]
  return compare(bench, 'http1-cross', [await crossOf(bench, 'orders'), ...peers], {
    connections: 64,
    metric: 'µs CPU / request, 64 connections',
    goals: { nginx: 0.9, envoy: 0.65 },
  })
}

/** The same with many connections. */
export async function http1CrossMany(bench: Bench): Promise<Result[]> {
  const ours = await crossOf(bench, 'orders')
  return compare(bench, 'http1-cross-1k', [ours, await bench.envoyPair('http')], {
    connections: 1000,
    metric: 'µs CPU / request, 1,000 connections',
    goals: { envoy: 0.45 },
  })
}

/** 1 MiB bodies, down and up. */
export async function bulkCross(bench: Bench): Promise<Result[]> {
  const contenders = [
    await crossOf(bench, 'orders'),
    await bench.nginxPair(),
    await bench.envoyPair('http'),
  ]
  const goals = { nginx: 0.8, envoy: 1.7 }
  return [
    ...(await compare(bench, 'bulk-cross', contenders, {
      connections: 16,
      path: '/big',
      metric: 'µs CPU / MiB down, 16 connections',
      goals,
    })),
    ...(await compare(bench, 'bulk-cross', contenders, {
      connections: 16,
      path: '/sink',
      script: uploadScript,
      metric: 'µs CPU / MiB up, 16 connections',
      goals,
    })),
  ]
}

/** Raw TCP: small messages back and forth, and bulk on one connection. */
export async function tcpCross(bench: Bench): Promise<Result[]> {
  const contenders = [await crossOf(bench, 'raw'), await bench.envoyPair('tcp')]
  return [
    ...(await compare(bench, 'tcp-cross', contenders, {
      connections: 64,
      metric: 'µs CPU / round trip, 64 connections',
      goals: { envoy: 1.2 },
    })),
    ...(await compare(bench, 'tcp-cross', contenders, {
      connections: 1,
      path: '/big',
      metric: 'µs CPU / MiB, 1 connection',
      goals: { envoy: 1.7 },
    })),
  ]
}

/** A new caller connection for each request. */
export async function connect(bench: Bench): Promise<Result[]> {
  const http = [await crossOf(bench, 'orders'), await bench.envoyPair('http')]
  const raw = [await crossOf(bench, 'raw'), await bench.envoyPair('tcp')]
  return [
    ...(await compare(bench, 'connect', http, {
      connections: 32,
      script: closeScript,
      metric: 'µs CPU / HTTP connection',
      goals: { envoy: 1.0 },
    })),
    ...(await compare(bench, 'connect', raw, {
      connections: 32,
      script: closeScript,
      metric: 'µs CPU / TCP connection',
      goals: { envoy: 1.3 },
    })),
  ]
}
