/**
 * Owns a free TCP port for programs that cannot be told to take any: free a moment ago, that is. It
 * lies below the ports that the kernel gives to connections, which would take it in that moment.
 */

import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

const [first, last] = [20_000, 32_000] as const

const given = new Set<number>()

/** A port that nothing listened on just now, on 127.0.0.1; another one each time. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(first, last)
    if (given.has(port)) continue
    given.add(port)
    const server = createServer()
    try {
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    } catch {
      continue
    }
    server.close()
    await once(server, 'close')
    return port
  }
}
