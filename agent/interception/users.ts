/**
 * Owns who runs what on this host, as the system tells it: numbers of named users, and owners of
 * listening sockets. It reads files and decides nothing.
 */

import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { isIPv6 } from 'node:net'
import type { Endpoint } from './capture-state.ts'

/** The number of a user, or null where the system knows none of that name. */
export async function userNumber(name: string): Promise<number | null> {
  if (/^[0-9]{1,9}$/.test(name)) return Number(name)
  const inFile = numberIn(await readFile('/etc/passwd', 'utf8').catch(() => ''), name)
  if (inFile !== null) return inFile
  // Users of a directory service are not in the file.
  return new Promise((resolve) => {
    execFile('getent', ['passwd', name], { timeout: 5000 }, (error, stdout) =>
      resolve(error === null ? numberIn(stdout, name) : null),
    )
  })
}

function numberIn(passwd: string, name: string): number | null {
  const line = passwd.split('\n').find((one) => one.startsWith(`${name}:`))
  const digits = line?.split(':')[2] ?? ''
  return /^[0-9]+$/.test(digits) ? Number(digits) : null
}

/** A TCP socket as the kernel lists it. */
export interface SocketEntry extends Endpoint {
  readonly user: number
  readonly state: 'listening' | 'open' | 'closing'
}

/** The TCP sockets of this network, both families; empty where they cannot be read. */
export async function sockets(): Promise<readonly SocketEntry[]> {
  const texts = await Promise.all(
    ['/proc/self/net/tcp', '/proc/self/net/tcp6'].map((path) =>
      readFile(path, 'utf8').catch(() => ''),
    ),
  )
  return texts.flatMap(readSockets)
}

/** Reads the kernel's list of TCP sockets (`/proc/net/tcp`, `/proc/net/tcp6`). */
export function readSockets(text: string): readonly SocketEntry[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, local = '', , code = '', , , , user = ''] = line.trim().split(/\s+/)
      const [address = '', port = ''] = local.split(':')
      // What only waits for late packets is nobody's connection any more.
      if (port === '' || code === '06') return []
      const state = code === '0A' ? 'listening' : code === '01' ? 'open' : 'closing'
      return [
        { address: addressOf(address), port: Number.parseInt(port, 16), user: Number(user), state },
      ]
    })
}

/** The user whose socket listens at an address, be it on every address; null where none does. */
export function listenerOf(entries: readonly SocketEntry[], at: Endpoint): number | null {
  const every = isIPv6(at.address) ? ['::'] : ['0.0.0.0', '::']
  const found = entries.find(
    ({ state, port, address }) =>
      state === 'listening' &&
      port === at.port &&
      (address === at.address || every.includes(address)),
  )
  return found?.user ?? null
}

/** The kernel prints 32-bit words in the machine's order, which is little-endian where we run. */
function addressOf(hex: string): string {
  const words = hex.match(/.{8}/g) ?? []
  const bytes = words.flatMap((word) => (word.match(/../g) ?? []).toReversed())
  if (bytes.length === 4) return bytes.map((byte) => Number.parseInt(byte, 16)).join('.')
  const groups = Array.from({ length: 8 }, (_, n) => `${bytes[2 * n]}${bytes[2 * n + 1]}`)
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}
