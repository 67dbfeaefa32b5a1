import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import t from 'tap'
import { KernelSockets, listenerOf } from '#agent/kernel/sockets.ts'

const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n'
const line = (local: string, state: string, user = 0): string =>
  `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000 ${user} 0 1\n`
/** Lists as the kernel writes them: of four and of six. */
const of = (...lists: readonly string[]) =>
  new KernelSockets((file) => [lists[file.endsWith('6') ? 1 : 0] ?? ''])

t.test('the kernel’s list tells who listens where, and which ports have connections', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const here = { first: port, last: port }
  const me = process.getuid?.() ?? -1
  const kernel = new KernelSockets()
  const sockets = kernel.listening()
  t.equal(listenerOf(sockets, { address: '127.0.0.1', port }), me)
  t.equal(listenerOf(sockets, { address: '127.0.0.2', port }), null)
  t.equal(kernel.listens(here, me), true)
  t.equal(kernel.listens(here, me + 1), false)
  t.equal(await kernel.hasConnection(here), false, 'a listener is none')
  const caller = connect(port, '127.0.0.1')
  t.teardown(() => caller.destroy())
  const [callee] = (await once(server, 'connection')) as [Socket]
  t.teardown(() => callee.destroy())
  t.equal(await kernel.hasConnection(here), true)
  t.equal(
    kernel.listening().filter((one) => one.port === port).length,
    1,
    'connections are not listed',
  )
})

t.test('addresses of both families are read', async (t) => {
  const four = head + line('0500000A:1F90', '0A', 1001) + line('0500000A:1F92', '01')
  const six =
    head +
    line('00000000000000000000000000000000:1F90', '0A') +
    line('00000000000000000000000001000000:1F91', '0A') +
    line('0000000000000000FFFF00000100007F:1F92', '0A') +
    line('000080FE000000000000000001000000:0050', '0A', 7)
  t.same(of(four, six).listening(), [
    { address: '10.0.0.5', port: 8080, user: 1001 },
    { address: '::', port: 8080, user: 0 },
    { address: '::1', port: 8081, user: 0 },
    { address: '127.0.0.1', port: 8082, user: 0 },
    { address: 'fe80::1', port: 80, user: 7 },
  ])
  t.same(of('', '').listening(), [], 'what cannot be read lists nothing')
})

t.test('a listener on every address counts for each', async (t) => {
  const sockets = of(head + line('00000000:1F90', '0A', 1001)).listening()
  t.equal(listenerOf(sockets, { address: '10.0.0.1', port: 8080 }), 1001)
  t.equal(listenerOf(sockets, { address: 'fe80::1', port: 8080 }), null)
})

t.test('no question reads further than it must', async (t) => {
  let connections = 0
  const kernel = new KernelSockets(function* (file) {
    if (file.endsWith('6')) return
    const text = head + line('00000000:1F90', '0A', 1) + line('00000000:1F91', '0A', 2)
    // Pieces end anywhere.
    for (const piece of [text.slice(0, 100), text.slice(100, 170), text.slice(170)]) yield piece
    for (; ; connections++) yield line('0100007F:1F90', connections % 2 === 0 ? '06' : '01', 3)
  })
  t.equal(kernel.listens({ first: 0x1f90, last: 0x1f90 }, 1), true)
  t.same(
    kernel.listening().map(({ user }) => user),
    [1, 2],
  )
  t.equal(connections, 0, 'the first connection ends the reading')
  const at = (port: number) => ({ address: '127.0.0.1', port })
  const usersOf = (...ports: readonly number[]) =>
    ports.map((port) => listenerOf(kernel.listening(ports.map(at)), at(port)))
  t.same(usersOf(0x1f91, 0x1f90, 0x1f92), [2, 1, null], 'whoever asks for places hears of them')
  t.equal(kernel.listening([at(0x1f90)]).length, 1, 'and no more is read once all are found')
  t.same(kernel.listening([]), [])
  t.equal(await kernel.hasConnection({ first: 0x1f90, last: 0x1f90 }), true)
  t.equal(connections, 1, 'a connection that is found ends it, too')
})

t.test(
  'a connection counts by its local port, unless it only waits for late packets',
  async (t) => {
    const ports = { first: 0x1f90, last: 0x1f91 }
    const has = (...lines: readonly string[]) => of(head + lines.join('')).hasConnection(ports)
    t.equal(await has(line('0100007F:1F90', '0A'), line('0100007F:1F92', '01')), false)
    t.equal(await has(line('0100007F:1F91', '06')), false)
    t.equal(await has(line('0100007F:1F91', '01')), true)
    t.equal(await has(line('0100007F:1F91', '04')), true, 'one that is ending still passes')
    const six = line('00000000000000000000000001000000:1F90', '01')
    t.equal(await of(head, head + six).hasConnection(ports), true)
  },
)

t.test('connections to a network are told from others, in either family', async (t) => {
  const to = (far: string, state = '01'): string =>
    `   0: 0100007F:9C40 ${far}:0050 ${state} 00000000:00000000 00:00000000 00000000 0 0 1\n`
  const none = { first: 1, last: 1 }
  const has = (four: string, six: string) =>
    of(head + four, head + six).hasConnection(none, ['240.240.0.0/16', 'fd12:3456:789a::/48'])
  t.equal(await has(to('0102F0F0'), ''), true)
  t.equal(await has('', to('0000000000000000FFFF00000102F0F0')), true)
  t.equal(await has('', to('563412FD00009A780000000001000000')), true)
  t.equal(await has(to('0102F0F0', '06'), ''), false, 'what waits for late packets is over')
  const others = to('0102F1F0') + to('F0F00102') + line('0102F0F0:0050', '01')
  t.equal(await has(others, to('563412FD00009B780000000001000000')), false)
  t.equal(await of(head + to('0102F0F0')).hasConnection(none), false)
})
