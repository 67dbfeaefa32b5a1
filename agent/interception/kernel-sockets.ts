/**
 * Owns the kernel's list of this network's TCP sockets (`/proc/net/tcp`, `tcp6`). Listening sockets
 * come first in it: who asks for those alone reads no further, and nobody holds the rest at once, for
 * a host may have a hundred thousand connections. It decides nothing.
 */

import { open } from 'node:fs/promises'
import { isIPv6 } from 'node:net'
import type { Endpoint } from './capture-state.ts'

/** A TCP socket as the kernel lists it. */
export interface SocketEntry extends Endpoint {
  readonly user: number
  readonly state: 'listening' | 'open' | 'closing'
}

/** What is asked of the list. */
export interface KernelSockets {
  /** The listening sockets, both families; empty where they cannot be read. */
  listening(): Promise<readonly SocketEntry[]>
  /** Whether a connection has a local port of a range; false where none can be read. */
  hasConnection(ports: { readonly first: number; readonly last: number }): Promise<boolean>
}

const files = ['/proc/self/net/tcp', '/proc/self/net/tcp6'] as const
const pieceBytes = 65_536

/** The list of this process's network. */
export const kernelSockets: KernelSockets = socketsOf(files.map((file) => () => pieces(file)))

/** Sockets of lists that are read anew for each question, piece by piece. */
export function socketsOf(
  lists: readonly (() => AsyncIterable<string> | Iterable<string>)[],
): KernelSockets {
  return {
    async listening() {
      const found: SocketEntry[] = []
      for (const list of lists) {
        await eachLine(list(), (line) => {
          if (Number.isNaN(localPortOf(line))) return true
          const entry = readSocket(line)
          if (entry?.state !== 'listening') return false
          found.push(entry)
          return true
        })
      }
      return found
    },
    async hasConnection({ first, last }) {
      let has = false
      for (const list of lists) {
        await eachLine(list(), (line) => {
          const port = localPortOf(line)
          if (port < first || port > last) return true
          const entry = readSocket(line)
          has = entry !== null && entry.state !== 'listening'
          return !has
        })
        if (has) break
      }
      return has
    },
  }
}

/** Calls back for each whole line until told to stop. */
async function eachLine(
  list: AsyncIterable<string> | Iterable<string>,
  visit: (line: string) => boolean,
): Promise<void> {
  let rest = ''
  for await (const piece of list) {
    const lines = (rest + piece).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (!visit(line)) return
  }
}

async function* pieces(file: string): AsyncGenerator<string> {
  const handle = await open(file, 'r').catch(() => null)
  if (handle === null) return
  try {
    const buffer = Buffer.allocUnsafe(pieceBytes)
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, null)
      if (bytesRead === 0) return
      yield buffer.toString('latin1', 0, bytesRead)
    }
  } catch {
    // A list that ends early is a shorter list.
  } finally {
    await handle.close()
  }
}

/** The local port of a line, without cutting it up; NaN for the heading. */
function localPortOf(line: string): number {
  const colon = line.indexOf(':', line.indexOf(':') + 1)
  return Number.parseInt(line.slice(colon + 1, colon + 5), 16)
}

/** The socket of a line; null for what only waits for late packets. */
function readSocket(line: string): SocketEntry | null {
  const [, local = '', , code = '', , , , user = ''] = line.trim().split(/\s+/)
  const [address = '', port = ''] = local.split(':')
  // That is nobody's connection any more.
  if (port === '' || code === '06') return null
  const state = code === '0A' ? 'listening' : code === '01' ? 'open' : 'closing'
  return { address: addressOf(address), port: Number.parseInt(port, 16), user: Number(user), state }
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
