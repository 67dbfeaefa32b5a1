/**
 * Owns where a host of the demo is: a network namespace of its own, or loopback addresses of this
 * machine where namespaces may not be made. It makes and removes the namespaces, and names nothing
 * outside them.
 */

import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
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
  readonly hosts: readonly [Place, Place]
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

const names = ['alpha', 'beta'] as const
const own = /^hostmesh-(\d+)-/

/** Namespaces for root on Linux, else loopback addresses. */
export function makePlaces(parts: PlaceParts): Places {
  if (!parts.machine.isRoot) return loopback()
  try {
    return namespaces(parts)
  } catch (error) {
    const why = error instanceof Error ? (error.message.split('\n')[1] ?? error.message) : ''
    parts.say(`no network namespaces here (${why.trim()}); using loopback addresses`)
    return loopback()
  }
}

function loopback(): Places {
  const prefix = `127.${randomInt(64, 250)}.${randomInt(1, 250)}`
  const place = (name: string, last: number): Place => {
    const address = `${prefix}.${last}`
    return { name, address, local: address, isOwnNetwork: false, enter: (command) => command }
  }
  return {
    kind: 'loopback',
    hosts: [place(names[0], 11), place(names[1], 12)],
    controller: `${prefix}.10`,
    remove: () => {},
  }
}

function namespaces(parts: PlaceParts): Places {
  const ip = ipOf(parts.machine)
  sweep(parts.machine, ip)
  const [alpha, beta] = names.map((name) => `hostmesh-${parts.machine.pid}-${name}`) as [
    string,
    string,
  ]
  const remove = (): void => {
    for (const name of [alpha, beta]) quietly(() => ip('netns', 'delete', name))
  }
  try {
    for (const name of [alpha, beta]) ip('netns', 'add', name)
    ip('-n', alpha, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', beta)
    ip('-n', alpha, 'address', 'add', '10.204.0.10/24', 'dev', 'eth0')
    ip('-n', alpha, 'address', 'add', '10.204.0.11/24', 'dev', 'eth0')
    ip('-n', beta, 'address', 'add', '10.204.0.12/24', 'dev', 'eth0')
    for (const name of [alpha, beta]) {
      ip('-n', name, 'link', 'set', 'lo', 'up')
      ip('-n', name, 'link', 'set', 'eth0', 'up')
    }
  } catch (error) {
    remove()
    throw error
  }
  const place = (name: string, namespace: string, address: string): Place => ({
    name,
    address,
    local: '127.0.0.1',
    isOwnNetwork: true,
    enter: (command) => ['nsenter', `--net=/run/netns/${namespace}`, ...command],
  })
  return {
    kind: 'namespaces',
    hosts: [place(names[0], alpha, '10.204.0.11'), place(names[1], beta, '10.204.0.12')],
    controller: '10.204.0.10',
    remove,
  }
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
