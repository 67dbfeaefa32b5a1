/**
 * Owns the kernel's list of this network's TCP sockets (`/proc/net/tcp`, `tcp6`). Listening sockets
 * come first in it, and the step from them to the connections costs the kernel a walk through its
 * whole table (milliseconds), so no question reads further than it must. Nobody holds the connections
 * at once: a host may have a hundred thousand.
 */

import { closeSync, openSync, readSync } from 'node:fs'
import { isIPv6 } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import type { PortRange } from '#shared/model/port-range.ts'

/** A listening TCP socket. */
export interface ListeningSocket {
  readonly address: string
  readonly port: number
  /** The number of the user it belongs to. */
  readonly user: number
}

/** Where something listens, or ought to. */
export interface Place {
  readonly address: string
  readonly port: number
}

/** Reads one of the kernel's files in pieces of at most so many bytes; one that cannot be read has none. */
export type ListReader = (file: string, pieceBytes: number) => Iterable<string>

interface Line {
  readonly address: string
  readonly port: number
  readonly user: number
  readonly state: string
}

const files = ['/proc/self/net/tcp', '/proc/self/net/tcp6'] as const
/** The kernel gives no more at once. */
const pageBytes = 4096
/** Few lines, for who hopes to find what he looks for before the end of the listening ones. */
const fewBytes = 600
/** Pieces until others have their turn. */
const piecesAtOnce = 32

const states = { listening: '0A', waitingForLatePackets: '06' } as const

/** See the header. */
export class KernelSockets {
  readonly #read: ListReader

  constructor(read: ListReader = readPieces) {
    this.#read = read
  }

  /**
   * The listening sockets of both families; of those that somebody asks for by {@link listenerOf} no
   * more than it takes to answer, where it is said which.
   */
  listening(wanted?: readonly Place[]): readonly ListeningSocket[] {
    if (wanted === undefined) return [...this.#listening(pageBytes)]
    const found: ListeningSocket[] = []
    const missing = Map.groupBy(wanted, ({ port }) => port)
    const sockets = this.#listening(fewBytes)
    while (missing.size > 0) {
      const { value: socket } = sockets.next()
      if (socket === undefined) break
      found.push(socket)
      const { port } = socket
      const left = missing.get(port)?.filter((at) => listenerOf([socket], at) === null) ?? []
      if (left.length > 0) missing.set(port, left)
      else missing.delete(port)
    }
    sockets.return(undefined)
    return found
  }

  /** Whether a user listens at a port of a range. */
  listens({ first, last }: PortRange, user: number): boolean {
    for (const one of this.#listening(fewBytes)) {
      if (one.user === user && one.port >= first && one.port <= last) return true
    }
    return false
  }

  /**
   * Whether a connection has a local port of a range, or goes to an address of one of some networks of
   * whole bytes, such as `240.240.0.0/16`.
   */
  async hasConnection(
    { first, last }: PortRange,
    networks: readonly string[] = [],
  ): Promise<boolean> {
    const goesThere = goingTo(networks)
    for (const file of files) {
      let pieces = 0
      for (const lines of linesOf(this.#read(file, pageBytes))) {
        for (const line of lines) {
          const port = localPortOf(line)
          if (!(port >= first && port <= last) && !goesThere(line)) continue
          const { state } = parse(line)
          // What only waits for late packets is nobody's connection any more.
          if (state !== states.listening && state !== states.waitingForLatePackets) return true
        }
        if (++pieces % piecesAtOnce === 0) await setImmediate()
      }
    }
    return false
  }

  *#listening(pieceBytes: number): Generator<ListeningSocket, undefined> {
    for (const file of files) {
      for (const lines of linesOf(this.#read(file, pieceBytes))) {
        const sockets = lines.filter((line) => !Number.isNaN(localPortOf(line))).map(parse)
        const end = sockets.findIndex(({ state }) => state !== states.listening)
        for (const { address, port, user } of end < 0 ? sockets : sockets.slice(0, end)) {
          yield { address, port, user }
        }
        if (end >= 0) break
      }
    }
  }
}

/** The user whose socket listens at an address, be it on every address; null where none does. */
export function listenerOf(sockets: readonly ListeningSocket[], at: Place): number | null {
  const every = isIPv6(at.address) ? ['::'] : ['0.0.0.0', '::']
  const found = sockets.find(
    ({ port, address }) => port === at.port && (address === at.address || every.includes(address)),
  )
  return found?.user ?? null
}

function* readPieces(file: string, pieceBytes: number): Generator<string> {
  let descriptor = -1
  try {
    descriptor = openSync(file, 'r')
    const piece = Buffer.allocUnsafe(pieceBytes)
    for (;;) {
      const bytes = readSync(descriptor, piece, 0, piece.length, null)
      if (bytes === 0) return
      yield piece.toString('latin1', 0, bytes)
    }
  } catch {
    // A list that cannot be read lists nothing.
  } finally {
    if (descriptor >= 0) closeSync(descriptor)
  }
}

/** Whether the far end of a line is in one of the networks, told by the line's text. */
function goingTo(networks: readonly string[]): (line: string) => boolean {
  if (networks.length === 0) return () => false
  const shapes = networks.flatMap((network) => {
    const [address = '', length = ''] = network.split('/')
    const known = Number(length) / 8
    const groups = isIPv6(address) ? bytesOf(address) : address.split('.').map(Number)
    const shown = groups.map((byte, index) =>
      index < known ? byte.toString(16).toUpperCase().padStart(2, '0') : '..',
    )
    const words = Array.from({ length: shown.length / 4 }, (_, n) => shown.slice(4 * n, 4 * n + 4))
    const shape = words.map((word) => word.toReversed().join('')).join('')
    return isIPv6(address) ? [shape] : [shape, `0{16}FFFF0000${shape}`]
  })
  const pattern = new RegExp(`^ *\\d+: \\S+ (?:${shapes.join('|')}):`)
  return (line) => pattern.test(line)
}

/** The bytes of an IPv6 address in the spelling of `URL`. */
function bytesOf(address: string): readonly number[] {
  const [head = '', tail] = address.split('::')
  const read = (part: string): readonly number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16))
  const [before, after] = [read(head), read(tail ?? '')]
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0)
  return [...before, ...zeros, ...after].flatMap((group) => [group >> 8, group & 255])
}

/** The whole lines of each piece. */
function* linesOf(pieces: Iterable<string>): Generator<readonly string[]> {
  let rest = ''
  for (const piece of pieces) {
    const lines = (rest + piece).split('\n')
    rest = lines.pop() ?? ''
    yield lines
  }
}

/** The local port of a line, without cutting it up; NaN for the heading. */
function localPortOf(line: string): number {
  const colon = line.indexOf(':', line.indexOf(':') + 1)
  return Number.parseInt(line.slice(colon + 1, colon + 5), 16)
}

function parse(line: string): Line {
  const [, local = '', , state = '', , , , user = ''] = line.trim().split(/\s+/)
  const [address = '', port = ''] = local.split(':')
  return { address: addressOf(address), port: Number.parseInt(port, 16), user: Number(user), state }
}

/** The kernel prints 32-bit words in the machine's order, which is little-endian where we run. */
function addressOf(hex: string): string {
  const words = hex.match(/.{8}/g) ?? []
  const bytes = words.flatMap((word) => (word.match(/../g) ?? []).toReversed())
  const numbers = bytes.map((byte) => Number.parseInt(byte, 16))
  if (bytes.length === 4) return numbers.join('.')
  const isMapped = numbers.slice(0, 10).every((one) => one === 0) && bytes[10] === 'FF'
  if (isMapped) return numbers.slice(12).join('.')
  const groups = Array.from({ length: 8 }, (_, n) => `${bytes[2 * n]}${bytes[2 * n + 1]}`)
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}
