/**
 * Owns the scenario of interception: what a change of the rules takes, and what a new connection
 * costs, with few and with many captured addresses. In a network namespace of its own; root only.
 */

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { nothing, type CaptureState } from '#agent/interception/capture-state.ts'
import { kernelCommands } from '#agent/interception/commands.ts'
import { KernelTable } from '#agent/interception/kernel-table.ts'
import type { Bench } from '#test/bench/bench.ts'
import type { Result } from '#test/bench/result.ts'
import { silentLogger } from '#test/support/silent-logger.ts'

const many = { destinations: 5000, callers: 200 } as const
const few = { destinations: 10, callers: 2 } as const
const updates = 21
const connections = 2000
const dials = 5

/** Opens connections one after the other; prints microseconds for each. */
const dialler = `
  const { connect } = require('node:net')
  const { once } = require('node:events')
  require('node:net').createServer((s) => s.on('error', () => {}).resume()).listen(17000, async () => {
    for (const count of [200, ${connections}]) {
      const start = performance.now()
      for (let i = 0; i < count; i++) {
        const s = connect(80, '240.240.0.1')
        await once(s, 'connect')
        s.resetAndDestroy()
      }
      if (count > 200) console.log((performance.now() - start) * 1000 / count)
    }
    process.exit()
  })`

/** Rules for so many addresses and callers; `shift` changes one of each. */
function stateOf(
  size: { readonly destinations: number; readonly callers: number },
  shift = 0,
): CaptureState {
  const at = (index: number): string => `240.240.${(index + 1) >> 8}.${(index + 1) & 255}`
  const destinations = Array.from({ length: size.destinations }, (_, n) => ({
    address: at(n),
    port: n === size.destinations - 1 ? 8000 + shift : 80,
    virtual: at(n),
    denied: false,
  }))
  return {
    ...nothing,
    unknownPort: 17000,
    callers: Array.from({ length: size.callers }, (_, n) => ({
      kind: 'user' as const,
      user: 2000 + n + (n === size.callers - 1 ? shift : 0),
      port: 17001 + n,
    })),
    destinations,
    // As where each is a service that two other hosts have, which may be called in plain.
    standIns: destinations.map(({ address, port }, n) => ({
      address,
      port,
      to: [1, 2].map((host) => ({ address: `10.0.${n % 200}.${host}`, port: 8080 })),
    })),
    locks: Array.from({ length: size.callers }, (_, n) => ({
      port: 20_000 + n,
      users: [0, 2000 + n],
      mode: 'permissive' as const,
    })),
  }
}

/** What an update of the rules takes, and whether a new connection notices how many there are. */
export async function capture(bench: Bench): Promise<Result[]> {
  const name = `hostmesh-bench-${process.pid}`
  const ip = (...words: readonly string[]): void => void execFileSync('ip', words)
  ip('netns', 'add', name)
  try {
    ip('-n', name, 'link', 'set', 'lo', 'up')
    const enter = ['nsenter', `--net=/run/netns/${name}`]
    const table = new KernelTable(
      { commands: kernelCommands(enter), logger: silentLogger },
      {
        owner: 'bench',
        agentUser: 0,
        virtualRange6: null,
        callerPorts: { first: 17000, last: 19999 },
        tellsUnits: true,
      },
    )
    const costs: Record<'few' | 'many', number[]> = { few: [], many: [] }
    for (let round = 0; round < bench.settings.rounds; round++) {
      for (const [kind, size] of [
        ['few', few],
        ['many', many],
      ] as const) {
        await table.apply(stateOf(size))
        // The kernel still tidies up after the change while the first of them runs.
        for (let n = 0; n < dials; n++) costs[kind].push(await dial(enter))
      }
    }
    const times: number[] = []
    for (let n = 1; n <= updates; n++) {
      const start = performance.now()
      await table.apply(stateOf(many, n))
      times.push(performance.now() - start)
    }
    const [ours, peer] = [median(costs.many), median(costs.few)]
    const update = median(times)
    const label = `${many.destinations} addresses and ${many.callers} callers`
    return [
      {
        name: 'capture',
        metric: `milliseconds for a change of rules with ${label}`,
        ours: update,
        peer: Number.NaN,
        peerName: '',
        ratio: Number.NaN,
        goal: 100,
        ok: update <= 100,
      },
      {
        name: 'capture',
        metric: `microseconds for a new connection with ${label}`,
        ours,
        peer,
        peerName: `${few.destinations} addresses`,
        ratio: ours / peer,
        goal: 1.1,
        ok: ours / peer <= 1.1,
      },
    ]
  } finally {
    ip('netns', 'delete', name)
  }
}

async function dial(enter: readonly string[]): Promise<number> {
  const [first = '', ...rest] = enter
  const child = spawn(first, [...rest, process.execPath, '-e', dialler], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return Number(line.toString())
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}
