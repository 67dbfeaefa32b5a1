/** Owns where programs of this host can be reached from beyond loopback. */

import { KernelSockets, type ListeningSocket, type Place } from '#agent/kernel/sockets.ts'

/** Addresses other than loopback ones by port, as in `0.0.0.0`. */
export type OpenPorts = ReadonlyMap<number, readonly string[]>

const kernelSockets = new KernelSockets()

/** Tells it by what listens. @default asks the kernel */
export function openPorts(
  sockets: readonly ListeningSocket[] = kernelSockets.listening(),
): OpenPorts {
  const found = new Map<number, string[]>()
  for (const { address, port } of sockets) {
    if (address.startsWith('127.') || address === '::1') continue
    const known = found.get(port)
    if (known === undefined) found.set(port, [address])
    else if (!known.includes(address)) known.push(address)
  }
  return found
}

/** Tells it of some places: no more is read of the kernel's list than it takes to answer for them. */
export function openPortsOf(wanted: readonly Place[]): OpenPorts {
  return openPorts(kernelSockets.listening(wanted))
}
