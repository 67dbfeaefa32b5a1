/**
 * Owns where hosts of the demo are: a network namespace each, or loopback addresses of this
 * machine where namespaces may not be made. It makes and removes the namespaces, and names nothing
 * outside them.
 */

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { randomInt } from 'node:crypto'
import type { Machine } from './machine.ts'

/** One place: how programs are started there, and its addresses. */
export interface Place {
  readonly name: string
  /** Address other hosts reach it at. */
  readonly address: string
  /** Address of services and listeners that only this host's programs use. */
  readonly local: string
  /** Whether its network is its own, so that an agent may change the rules there. */
  readonly isOwnNetwork: boolean
  /** Turns a command into one that runs there. */
  enter(command: readonly string[]): readonly string[]
}

/** The places of a world. */
export interface Places {
  readonly kind: 'namespaces' | 'loopback'
  /** The namespace whose `eth0` is the switch between all; empty on loopback. */
  readonly namespace: string
  /** As many as were asked for. */
  readonly hosts: readonly [Place, Place, ...Place[]]
  /** Address of the controller; it runs in the first host's place. */
  readonly controller: string
  /** Removes what was made. Never throws. */
  remove: () => void
}

/** What places are made with. */
export interface PlaceParts {
  readonly machine: Machine
  /** A remark for the person who watches. */
  readonly say: (line: string) => void
}

const names = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta'] as const
const own = /^hostmesh-(\d+)-/

/** Namespaces for root on Linux, else loopback addresses; two hosts to eight. */
export function makePlaces(parts: PlaceParts, count = 2): Places {
  if (!parts.machine.isRoot) return loopback(count)
  try {
    return namespaces(parts, count)
  } catch (error) {
    const why = error instanceof Error ? (error.message.split('\n')[1] ?? error.message) : ''
    parts.say(`no network namespaces here (${why.trim()}); using loopback addresses`)
    return loopback(count)
  }
}

function loopback(count: number): Places {
  const prefix = `127.${randomInt(64, 250)}.${randomInt(1, 250)}`
  const place = (name: string, index: number): Place => {
    const address = `${prefix}.${11 + index}`
    return { name, address, local: address, isOwnNetwork: false, enter: (command) => command }
  }
  return {
    kind: 'loopback',
    namespace: '',
    hosts: some(names.slice(0, count).map(place)),
    controller: `${prefix}.10`,
    remove: () => {},
  }
}

/** The first namespace holds the switch that joins them all. */
function namespaces(parts: PlaceParts, count: number): Places {
  const ip = ipOf(parts.machine)
  sweep(parts.machine, ip)
  const wanted = names.slice(0, count)
  const prefix = freePrefix(parts.machine.pid)
  const spaceOf = (name: string): string => `${prefix}-${name}`
  const [first, ...others] = wanted.map(spaceOf)
  if (first === undefined) throw new TypeError('a world has hosts')
  const remove = (): void => {
    for (const name of [first, ...others]) quietly(() => ip('netns', 'delete', name))
  }
  try {
    for (const name of [first, ...others]) ip('netns', 'add', name)
    ip('-n', first, 'link', 'add', 'eth0', 'type', 'bridge')
    ip('-n', first, 'address', 'add', '10.204.0.10/24', 'dev', 'eth0')
    ip('-n', first, 'address', 'add', '10.204.0.11/24', 'dev', 'eth0')
    ip('-n', first, 'link', 'set', 'lo', 'up')
    ip('-n', first, 'link', 'set', 'eth0', 'up')
    for (const [index, name] of others.entries()) {
      const port = `port${index}`
      const far = ['peer', 'name', 'eth0', 'netns', name]
      ip('-n', first, 'link', 'add', port, 'type', 'veth', ...far)
      ip('-n', first, 'link', 'set', port, 'master', 'eth0', 'up')
      ip('-n', name, 'address', 'add', `10.204.0.${12 + index}/24`, 'dev', 'eth0')
      ip('-n', name, 'link', 'set', 'lo', 'up')
      ip('-n', name, 'link', 'set', 'eth0', 'up')
    }
  } catch (error) {
    remove()
    throw error
  }
  const place = (name: string, index: number): Place => ({
    name,
    address: `10.204.0.${11 + index}`,
    local: '127.0.0.1',
    isOwnNetwork: true,
    enter: (command) => ['nsenter', `--net=/run/netns/${spaceOf(name)}`, ...command],
  })
  const hosts = some(wanted.map(place))
  return { kind: 'namespaces', namespace: first, hosts, controller: '10.204.0.10', remove }
}

/** One process may have several worlds at once. */
function freePrefix(pid: number): string {
  const prefix = `hostmesh-${pid}`
  const isTaken = (it: string): boolean => existsSync(`/run/netns/${it}-${names[0]}`)
  if (!isTaken(prefix)) return prefix
  let n = 2
  while (isTaken(`${prefix}-${n}`)) n++
  return `${prefix}-${n}`
}

function some(places: readonly Place[]): readonly [Place, Place, ...Place[]] {
  const [first, second, ...more] = places
  if (first === undefined || second === undefined) throw new TypeError('a world has two hosts')
  return [first, second, ...more]
}

/** Removes what a demo that was killed left behind. */
function sweep(machine: Machine, ip: Ip): void {
  quietly(() => {
    for (const name of readdirSync('/run/netns')) {
      const pid = own.exec(name)?.[1]
      if (pid !== undefined && !machine.isAlive(Number(pid))) ip('netns', 'delete', name)
    }
  })
}

/** A way to run iproute2's `ip`; throws with what it said. */
type Ip = (...words: readonly string[]) => void

function ipOf({ environment }: Machine): Ip {
  return (...words) =>
    void execFileSync('ip', words, { env: { ...environment }, stdio: ['ignore', 'ignore', 'pipe'] })
}

function quietly(run: () => void): void {
  try {
    run()
  } catch {}
}
