/**
 * Owns where the programs of a bench run: hosts in network namespaces as capture needs them, or
 * loopback addresses where it cannot be had, and the origin on one of them. The mesh and its peers
 * have a site each, of one shape, so that no peer pays for the mesh's rules.
 */

import { chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Place } from '#cli/demo/place.ts'
import { findProgram } from '#cli/find-program.ts'
import { freePort } from '#test/support/free-port.ts'
import { userCommand } from '#test/support/local-user.ts'
import { lacks } from '#test/support/needs.ts'
import { nginxOrigin, type Address } from './peers/nginx.ts'
import { Program } from './program.ts'

/** Proxies run here, load and origin there. */
export const cores = { proxy: 0, load: 1 } as const

/** Users of a host whose network is its own: who calls, and whose service the origin is. */
export const users = { web: 3001, orders: 3002 } as const

/** Two hosts, and the origin on the far one. */
export interface Site {
  readonly near: Place
  readonly far: Place
  readonly origin: Origin
}

/** An origin's two ports, at the address that only programs of its host reach. */
export interface Origin {
  readonly http: Address
  readonly raw: Address
}

/** Where a load goes, and how the program that makes it is started there. */
export interface Way {
  readonly at: Address
  readonly enter: (command: readonly string[]) => readonly string[]
}

/** Why calls cannot be captured on this machine; empty where they can. */
export function lackOfCapture(): string {
  return lacks('netns', 'nft', 'setpriv')
}

/** The way of a program on a host to an address; as the caller's user, where users are told apart. */
export function wayFrom(place: Place, at: Address): Way {
  return {
    at,
    enter: (command) =>
      place.enter(place.isOwnNetwork ? userCommand(users.web, ...command) : command),
  }
}

/** Starts an origin on a host; other hosts reach it at the host's address, on the same ports. */
export async function startOrigin(
  place: Place,
  directory: string,
): Promise<{ readonly origin: Origin; readonly program: Program }> {
  const [http, raw] = [await freePort(), await freePort()]
  const addresses = [...new Set([place.local, place.address])]
  mkdirSync(directory, { mode: 0o755 })
  const words = nginxOrigin(directory, addresses, { http, raw })
  const nginx = [findProgram('nginx') ?? 'nginx', ...words] as const
  if (place.isOwnNetwork) {
    for (const path of [directory, join(directory, 'origin')]) {
      chownSync(path, users.orders, users.orders)
    }
  }
  const [command, ...args] = place.isOwnNetwork ? userCommand(users.orders, ...nginx) : nginx
  const logFile = join(directory, 'origin.log')
  const program = new Program({ command, args, cwd: '/', core: cores.load, logFile, place })
  await program.listening(raw)
  return {
    origin: {
      http: { address: place.local, port: http },
      raw: { address: place.local, port: raw },
    },
    program,
  }
}
