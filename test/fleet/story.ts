/**
 * Owns what a fleet goes through, from machines with nothing to a mesh that serves, from one version to
 * the next under load, and back to machines with nothing; each claim is a row.
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Result } from '#test/bench/result.ts'
import type { RotationStatus } from '#shared/rpc/operator-messages.ts'
import type { GenerationReport } from '#shared/model/admin-workers.ts'
import type { Machine, MachineTest } from '#test/support/machine-room.ts'
import { root } from '#test/support/sources.ts'
import { until } from '#test/support/until.ts'
import { Callers } from './callers.ts'
import { anotherVersion, Fleet, packageIn, ports, type Played } from './fleet.ts'

/** How much of everything. */
export interface StorySettings {
  /** `full` as docs/operations.md says, `brief` for the test command. */
  readonly size: 'full' | 'brief'
  /** Whether the root is replaced as well. @default false */
  readonly rotates?: boolean
  /** Takes each row as soon as it is known. */
  readonly onRow: (row: Result) => void
}

const sizes = {
  full: {
    machines: ['m1', 'm2', 'm3', 'm4'],
    storeNodes: 3,
    requests: 100_000,
    streams: 25,
    // All machines share the cores: a load that leaves them none slows down what is watched, not the mesh.
    pauseMs: 100,
    patienceMs: 2000,
  },
  // Fewer requests still, deadlines three times as long.
  brief: {
    machines: ['m1', 'm2'],
    storeNodes: 1,
    requests: 20_000,
    streams: 10,
    pauseMs: 150,
    patienceMs: 6000,
  },
} as const
const versions = { next: '99.0.0', broken: '99.0.1' } as const
const patience = { withinMs: 180_000 }

/** Plays all of it; throws where going on makes no sense. */
export async function fleetStory(t: MachineTest, settings: StorySettings): Promise<void> {
  const size = sizes[settings.size]
  const directory = join(root, '.package', `fleet-${process.pid}`)
  mkdirSync(directory, { recursive: true })
  t.teardown(async () => rmSync(directory, { recursive: true, force: true }))
  const logs = join(root, '.package/fleet-logs')
  mkdirSync(logs, { recursive: true })
  const atMost = (metric: string, ours: number, goal: number): void => {
    const none = { peer: Number.NaN, peerName: '', ratio: Number.NaN }
    settings.onRow({ name: 'fleet', metric, ours, ...none, goal, ok: ours <= goal })
  }
  /** Fails loudly unless the playbook ended as it should. */
  const ended = (what: string, played: Played, code: 'well' | 'badly'): Played => {
    const { seconds, output } = played
    t.comment(`${what}: ${seconds.toFixed(0)} s`)
    writeFileSync(join(logs, `${what}.log`), output)
    if ((played.code === 0) === (code === 'well')) return played
    throw new Error(`${what} ended with ${played.code}:\n${output.slice(-8000)}`)
  }

  /** As the playbook does it; the store of the fleet has certificates of the same root. */
  const replaceRoot = async (): Promise<void> => {
    const former = rootsOf(machines)
    const check = ended(
      'rotate_ca.yml --check',
      await fleet.play('rotate_ca', {}, '--check'),
      'well',
    )
    const played = ended('rotate_ca.yml', await fleet.play('rotate_ca', {}), 'well')
    atMost('hosts on which --check foretold another rotation', differing(check, played), 0)
    const kept = rootsOf(machines).filter((root) => former.includes(root)).length
    atMost('roots of before that are still trusted', kept, 0)
    const nodes = machines.slice(0, storeNodes)
    const roots = nodes.map((node) => node.shell('grep -c BEGIN /etc/etcd/mesh/ca.pem').trim())
    atMost(
      'nodes of the store that trust more than one root',
      roots.filter((n) => n !== '1').length,
      0,
    )
    const wrong = machines.filter((one) => one.try('meshctl', 'check', '--wait').code !== 0)
    atMost('hosts where something is wrong after it', wrong.length, 0)
  }

  const packages = makePackages(directory)
  const { storeNodes } = size
  const fleet = await Fleet.boot(t, {
    ...size,
    // A new root takes a third of it; and no control process may be away for half of it.
    leafTtlSeconds: settings.rotates === true ? 1200 : 86_400,
    directory,
    packages,
  })
  const { machines } = fleet
  const before = machines.map((machine) => fleet.traces(machine))
  const { version: first } = packageIn(packages)
  const now = { mesh_version: first, mesh_waves: [1, '100%'] }
  makeVersions(packages)

  const foretold = ended('site.yml --check', await fleet.play('site', now, '--check'), 'well')
  const site = ended('site.yml', await fleet.play('site', now, '-vvv'), 'well')
  atMost('hosts on which --check foretold other changes', differing(foretold, site), 0)
  atMost(
    'join tokens in what Ansible says at -vvv',
    site.output.match(/hmjoin1\.\w/g)?.length ?? 0,
    0,
  )
  for (const machine of machines) await serves(machine)
  const again = ended('site.yml again', await fleet.play('site', now), 'well')
  atMost('changed by a second run', sum(again.changed), 0)

  const { streams, pauseMs, patienceMs } = size
  const callers = new Callers(machines, { kept: 8, fresh: 2, streams, pauseMs, patienceMs })
  t.teardown(() => callers.stop())
  const all = streams * machines.length
  await until('every stream is open', () => callers.open === all, patience)

  const broken = { ...now, mesh_version: versions.broken, mesh_gate_timeout: '15s' }
  const stopped = ended(
    'upgrade.yml to what is broken',
    await fleet.play('upgrade', broken),
    'badly',
  )
  const touched = Object.values(stopped.changed).filter((count) => count > 0).length
  atMost('hosts touched by a broken version', touched, 1)
  atMost('hosts not at their former version after it', lag(machines, first), 0)

  const next = { ...now, mesh_version: versions.next }
  ended('upgrade.yml', await fleet.play('upgrade', next), 'well')
  atMost('hosts not at the next version after upgrade.yml', lag(machines, versions.next), 0)
  if (settings.rotates === true) await replaceRoot()
  await until('enough requests', () => callers.requests >= size.requests, {
    withinMs: settings.size === 'full' ? 1_800_000 : 600_000,
  })
  for (const failure of callers.failures) t.comment(failure)
  atMost(`failed of ${callers.requests} requests meanwhile`, callers.failed, 0)
  atMost(`cut of ${all} streams held meanwhile`, callers.cut, 0)
  await callers.stop()

  ended('remove.yml', await fleet.play('remove', { mesh_remove: true }), 'well')
  for (const [index, machine] of machines.entries()) {
    const left = difference(before[index] ?? '', fleet.traces(machine))
    for (const line of left.slice(0, 20)) t.comment(`${machine.name}: ${line}`)
    atMost(`lines of its state that remove.yml left different on ${machine.name}`, left.length, 0)
  }
}

/** One package, plain: large, and made in seconds. */
function makePackages(directory: string): string {
  const out = join(directory, 'packages')
  const words = ['run', '--silent', 'package', '--', '--plain', '--out', out]
  execFileSync('npm', words, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  return out
}

function makeVersions(packages: string): void {
  const { path } = packageIn(packages)
  anotherVersion(path, versions.next)
  anotherVersion(path, versions.broken, 'throw new Error("broken on purpose")')
}

async function serves(machine: Machine): Promise<void> {
  const words = ['--silent', '--fail', `http://127.0.0.1:${ports.upstream}/`]
  const answers = (): boolean => machine.try('curl', ...words).stdout.includes('"host"')
  await until(`${machine.name} reaches the service`, answers, patience)
}

/** How many machines have, or run, another version. */
function lag(machines: readonly Machine[], version: string): number {
  const all = machines.filter((machine) => {
    const there = machine.try(
      'dpkg-query',
      '--show',
      '--showformat=${Status} ${Version}',
      'hostmesh',
    )
    const status = machine.try('meshctl', 'status').stdout
    const generations = machine.try('meshctl', '--json', 'generations').stdout
    const serving = (JSON.parse(generations || '[]') as readonly GenerationReport[])
      .filter(({ phase }) => phase === 'live')
      .flatMap(({ versions }) => versions)
    return (
      there.stdout !== `install ok installed ${version}` ||
      !status.includes(`version ${version},`) ||
      // Workers go along where there is the verb that hands over.
      (handsOver(machine) && serving.join() !== version)
    )
  })
  return all.length
}

/** The names of the roots that the controller has hosts trust. */
function rootsOf([controller]: readonly Machine[]): readonly string[] {
  const status = controller?.run('meshctl', '--json', 'ca', 'rotate', '--status') ?? ''
  return (JSON.parse(status) as RotationStatus).roots.map(({ name }) => name)
}

function handsOver(machine: Machine): boolean {
  return machine.try('meshctl', 'upgrade', '--help').code === 0
}

function differing(one: Played, other: Played): number {
  return Object.keys(other.changed).filter((host) => one.changed[host] !== other.changed[host])
    .length
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0)
}

function difference(before: string, after: string): readonly string[] {
  const [was, is] = [new Set(before.split('\n')), new Set(after.split('\n'))]
  return [
    ...[...was].filter((line) => !is.has(line)).map((line) => `- ${line}`),
    ...[...is].filter((line) => !was.has(line)).map((line) => `+ ${line}`),
  ]
}
