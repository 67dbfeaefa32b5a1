/** Owns the doubt whether agents on other hosts can reach what the controller advertises. */

import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'

const fix = 'set "advertise" to an IP address or name of this host that agents can reach'

/** What is wrong with a name to advertise, or an empty string. An IP address is taken at its word. */
export async function advertisedProblem(advertise: string): Promise<string> {
  if (isIP(advertise) !== 0) return ''
  const name = `the advertised name ${advertise}`
  try {
    const found = (await lookup(advertise, { all: true })).map(({ address }) => address)
    return found.every((address) => address === '::1' || address.startsWith('127.'))
      ? `${name} leads only to ${found.join(', ')}, which no other host can reach; ${fix}`
      : ''
  } catch {
    return `${name} cannot be resolved on this host; ${fix}`
  }
}
