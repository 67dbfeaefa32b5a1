/** Owns a TCP relay on loopback that can fall silent, as a network or a dead host does. */

import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'
import { must, parsePort, type Port } from '#shared/model/names.ts'

/** A relay to one port. */
export interface Detour {
  readonly port: Port
  /** From now on no byte gets through, and nobody is told. */
  freeze(): void
}

/** Makes a relay to a loopback port; it ends with the test. */
export async function makeDetour(t: Test, port: number): Promise<Detour> {
  let frozen = false
  const sockets = new Set<Socket>()
  const join = (from: Socket, to: Socket): void => {
    sockets.add(from)
    from.on('data', (chunk: Buffer) => {
      if (!frozen) to.write(chunk)
    })
    from.on('error', () => to.destroy())
    from.on('close', () => {
      if (!frozen) to.destroy()
    })
  }
  const server = createServer((near) => {
    const far = connect({ port, host: '127.0.0.1' })
    join(near, far)
    join(far, near)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return {
    port: must(parsePort((server.address() as AddressInfo).port)),
    freeze: () => {
      frozen = true
    },
  }
}
