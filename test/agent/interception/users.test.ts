import { createServer } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import { listenerOf, readSockets, sockets, userNumber } from '#agent/interception/users.ts'

t.test('the kernel’s list tells who listens where', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const entries = await sockets()
  t.equal(listenerOf(entries, { address: '127.0.0.1', port }), process.getuid?.())
  t.equal(listenerOf(entries, { address: '127.0.0.2', port }), null)
})

t.test('both families are read, and a listener on every address counts for each', async (t) => {
  const head = '  sl  local_address rem_address   st\n'
  const four = '   0: 00000000:1F90 00000000:0000 0A 0:0 0:0 0 1001 0 1\n'
  const six = '   0: 000080FE000000000000000001000000:0050 0:0 01 0:0 0:0 0 7 0 1\n'
  const [any] = readSockets(head + four)
  t.match(any, { address: '0.0.0.0', port: 8080, user: 1001, state: 'listening' })
  t.equal(listenerOf(readSockets(head + four), { address: '10.0.0.1', port: 8080 }), 1001)
  t.match(readSockets(head + six), [{ address: 'fe80::1', port: 80, user: 7, state: 'open' }])
})

t.test('userNumber knows names, numbers, and who is not there', async (t) => {
  t.equal(await userNumber('root'), 0)
  t.equal(await userNumber('1001'), 1001)
  t.equal(await userNumber('no-such-user-here'), null)
})
