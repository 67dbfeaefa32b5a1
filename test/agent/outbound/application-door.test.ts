/** How many connections to `agent.mesh` are handed on, and that one caller cannot shut out the others. */

import { once } from 'node:events'
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { ApplicationDoor } from '#agent/outbound/application-door.ts'
import { must, parseServiceName, type ServiceName } from '#shared/model/names.ts'
import { shortDir } from '#test/support/short-dir.ts'

const [orders, users] = ['orders', 'users'].map((name) => must(parseServiceName(name))) as [
  ServiceName,
  ServiceName,
]

t.test('a caller has its share of the door, and all together the whole', async (t) => {
  const socketPath = join(shortDir(t), 'door.sock')
  const handedOn: string[] = []
  const far = createServer((socket) => {
    socket.once('data', (line: Buffer) => {
      handedOn.push(String(line).trim())
      socket.write('here')
    })
  })
  far.listen(socketPath)
  const door = new ApplicationDoor({ socketPath, most: 3, mostOfOne: 2 })
  let caller: ServiceName | null = null
  const near = createServer({ allowHalfOpen: true }, (socket) => door.accept(socket, caller))
  near.listen(0, '127.0.0.1')
  await Promise.all([once(far, 'listening'), once(near, 'listening')])
  const open = new Set<Socket>()
  t.teardown(() => {
    for (const socket of open) socket.destroy()
    for (const server of [far, near] satisfies Server[]) server.close()
  })
  const call = async (by: ServiceName | null): Promise<Socket> => {
    caller = by
    const socket = connect((near.address() as AddressInfo).port, '127.0.0.1')
    open.add(socket)
    await once(near, 'connection')
    return socket
  }
  const isIn = async (by: ServiceName | null): Promise<Socket> => {
    const socket = await call(by)
    t.equal(String((await once(socket, 'data'))[0]), 'here')
    return socket
  }

  const first = await isIn(orders)
  await isIn(orders)
  t.match(await text(await call(orders)), /503 Service Unavailable.*by one service/s)
  await isIn(users)
  t.match(await text(await call(users)), /503 Service Unavailable.*too many connections/s)
  t.strictSame(
    handedOn,
    ['orders', 'orders', 'users'].map((service) => JSON.stringify({ service })),
  )

  first.destroy()
  await once(first, 'close')
  // The door learns of it a moment later.
  for (let tries = 0; handedOn.length < 4; tries++) {
    if (tries > 100) throw new Error('what was closed still counts')
    const socket = await call(orders)
    await Promise.race([once(socket, 'data'), once(socket, 'end')])
  }
})
