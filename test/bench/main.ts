/**
 * Owns the command line of the benches: `npm run bench -- <name…> [--json] [--profile dir]`.
 * `--hosts` and `--services` make the fleet of `scale` and the mesh of `propagate` smaller, to try them;
 * `--whole-mesh` is what agents and simulated hosts of `scale` have for `wholeMesh`.
 */

import { mkdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { Bench, type BenchSettings } from './bench.ts'
import { capture } from './scenarios/capture.ts'
import { churnScenario } from './scenarios/churn.ts'
import { latency } from './scenarios/latency.ts'
import { memory } from './scenarios/memory.ts'
import { websockets } from './scenarios/websockets.ts'
import { propagate } from './scenarios/propagate.ts'
import { scale } from './scenarios/scale.ts'
import { renderResult, type Result } from './result.ts'
import {
  bulkCross,
  connect,
  http1Cross,
  http1CrossMany,
  http1Local,
  tcpCross,
} from './scenarios/http.ts'

const scenarios: Readonly<Record<string, (bench: Bench) => Promise<Result[]>>> = {
  'http1-local': http1Local,
  'http1-cross': http1Cross,
  'http1-cross-1k': http1CrossMany,
  'bulk-cross': bulkCross,
  'tcp-cross': tcpCross,
  connect,
  latency,
  memory,
  websockets,
  propagate,
  scale,
  churn: churnScenario,
  capture,
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    profile: { type: 'string' },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '3' },
    hosts: { type: 'string', default: '1000' },
    services: { type: 'string', default: '1000' },
    'whole-mesh': { type: 'string', default: '10000' },
  },
})
const names = positionals.length > 0 ? positionals : Object.keys(scenarios)
const unknown = names.filter((name) => !Object.hasOwn(scenarios, name))
if (unknown.length > 0) {
  process.stderr.write(
    `no bench ${unknown.join(', ')}; there is ${Object.keys(scenarios).join(', ')}\n`,
  )
  process.exit(64)
}
if (!(Number(values.seconds) > 0)) {
  process.stderr.write(`--seconds ${values.seconds}: a round takes a time above 0\n`)
  process.exit(64)
}
const profile = values.profile === undefined ? null : resolve(values.profile)
if (profile !== null) mkdirSync(profile, { recursive: true })
const settings: BenchSettings = {
  seconds: Number(values.seconds),
  rounds: Number(values.rounds),
  hosts: Number(values.hosts),
  services: Number(values.services),
  wholeMesh: Number(values['whole-mesh']),
  profile,
  say: (line) => void process.stderr.write(`${line}\n`),
}
const results: Result[] = []
let failed = false
for (const name of names) {
  // What a scenario left in an agent, and programs that run on beside it, would be in the figures of the next.
  const bench = new Bench(settings)
  try {
    const rows = (await scenarios[name]?.(bench)) ?? []
    results.push(...rows)
    for (const row of rows) {
      process.stdout.write(`${values.json ? JSON.stringify(row) : renderResult(row)}\n`)
    }
  } catch (error) {
    failed = true
    process.stderr.write(
      `bench: ${name}: ${error instanceof Error ? error.message : String(error)}\n`,
    )
  } finally {
    await bench.stop()
  }
}
process.exit(failed || results.some(({ ok }) => !ok) ? 1 : 0)
