/** Owns what the machine says of itself, for what the agent's config leaves to it. */

import { availableParallelism, hostname, networkInterfaces } from 'node:os'

/** What the machine says of itself. */
export interface MachineFacts {
  readonly hostname: string
  /** Null where the machine has no address but loopback. */
  readonly address: string | null
  /** Cores this process may use. */
  readonly cores: number
}

/** Asks the machine. */
export function machineFacts(): MachineFacts {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  const outer = addresses.filter((entry) => !entry.internal && !entry.address.startsWith('fe80:'))
  const found = outer.find((entry) => entry.family === 'IPv4') ?? outer[0]
  return {
    hostname: hostname(),
    address: found?.address ?? null,
    cores: availableParallelism(),
  }
}
