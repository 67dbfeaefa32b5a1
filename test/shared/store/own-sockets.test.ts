/** Whose sockets end with a client, and whose do not. */

import { once } from 'node:events'
import { type AddressInfo, type Socket, connect, createServer } from 'node:net'
import t from 'tap'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { OwnSockets } from '#shared/store/own-sockets.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

t.test('what a client opens ends with it, and what others go on to open does not', async (t) => {
  const server = createServer((socket) => socket.on('error', () => {}))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const open = (): Socket => {
    const socket = connect({ port, host: '127.0.0.1' })
    t.teardown(() => socket.destroy())
    return socket.on('error', () => {})
  }
  t.teardown(() => server.close())
  const own = new OwnSockets({ clock: systemClock })
  const later = Promise.withResolvers<Socket>()
  const theirs: Socket[] = []
  const mine = own.run(() => {
    OwnSockets.leave(() => {
      theirs.push(open())
      // Timers and promises inherit it, as those of whoever is told of an event do.
      setTimeout(() => later.resolve(open()), 5)
    })
    return open()
  })
  await Promise.all([mine, ...theirs].map((socket) => once(socket, 'connect')))
  own.destroy()
  const last = await later.promise
  await once(last, 'connect')
  t.equal(mine.destroyed, true)
  t.equal(theirs[0]?.destroyed, false)
  t.equal(last.destroyed, false)
})

t.test('a connection that nobody takes is given up', async (t) => {
  const clock = new FakeClock()
  const own = new OwnSockets({ clock })
  // It waits for an address that does not come, as it would for an answer.
  const socket = own.run(() => connect({ port: 1, host: 'store', lookup: () => {} }))
  const failed = once(socket, 'error')
  await clock.advance(1499)
  t.equal(socket.destroyed, false)
  await clock.advance(1)
  t.match(await failed, [{ message: 'no connection within 1500 ms' }])
  t.equal(socket.destroyed, true)
})
