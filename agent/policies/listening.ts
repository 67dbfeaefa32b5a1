/**
 * Owns where programs of this host listen beyond loopback, as the kernel lists it in /proc/net/tcp and
 * tcp6. Reading is bounded: listening sockets come first in the list, before every connection.
 */

import { closeSync, openSync, readSync } from 'node:fs'

/** Addresses other than loopback ones by port, as in `0.0.0.0`. */
export type OpenPorts = ReadonlyMap<number, readonly string[]>

/** State of a listening socket in the list. */
const listening = '0A'
const mostBytes = 1_048_576
const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1

/** Reads the lists. Never throws: what cannot be read lists nothing. */
export function openPorts(read: (path: string) => string = readListening): OpenPorts {
  const found = new Map<number, string[]>()
  for (const [path, show] of [
    ['/proc/net/tcp', showIpv4],
    ['/proc/net/tcp6', showIpv6],
  ] as const) {
    for (const line of read(path).split('\n').slice(1)) {
      const [, local = '', , state] = line.trim().split(/\s+/)
      const [hexAddress = '', hexPort = ''] = local.split(':')
      if (state !== listening) continue
      const address = show(bytesOf(hexAddress))
      if (address.startsWith('127.') || address === '::1') continue
      const port = Number.parseInt(hexPort, 16)
      const known = found.get(port)
      if (known === undefined) found.set(port, [address])
      else if (!known.includes(address)) known.push(address)
    }
  }
  return found
}

/** The part of a list that is about listening sockets. */
function readListening(path: string): string {
  let descriptor = -1
  try {
    descriptor = openSync(path, 'r')
    const piece = Buffer.alloc(65_536)
    let text = ''
    while (text.length < mostBytes) {
      const bytes = readSync(descriptor, piece, 0, piece.length, null)
      if (bytes === 0) break
      text += piece.toString('latin1', 0, bytes)
      const last = text.split('\n').at(-2) ?? ''
      if (last.trim().split(/\s+/)[3] !== listening) break
    }
    return text
  } catch {
    return ''
  } finally {
    if (descriptor >= 0) closeSync(descriptor)
  }
}

/** The kernel writes an address as 32-bit words in the byte order of the machine. */
function bytesOf(hex: string): readonly number[] {
  return (hex.match(/.{8}/g) ?? []).flatMap((word) => {
    const bytes = (word.match(/../g) ?? []).map((two) => Number.parseInt(two, 16))
    return isLittleEndian ? bytes.reverse() : bytes
  })
}

function showIpv4(bytes: readonly number[]): string {
  return bytes.join('.')
}

function showIpv6(bytes: readonly number[]): string {
  if (bytes.slice(0, 10).every((one) => one === 0) && bytes[10] === 255) {
    return showIpv4(bytes.slice(12))
  }
  const groups = Array.from({ length: 8 }, (_, i) =>
    (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16),
  )
  return groups.join(':').replace(/(?:^|:)0(?::0)+(?::|$)/, '::')
}
