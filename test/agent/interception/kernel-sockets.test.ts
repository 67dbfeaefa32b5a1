import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import t from 'tap'
import { kernelSockets, listenerOf, socketsOf } from '#agent/interception/kernel-sockets.ts'

const head = '  sl  local_address rem_address   st\n'
const line = (local: string, state: string, user: number): string =>
  `   0: ${local} 00000000:0000 ${state} 0:0 0:0 0 ${user} 0 1\n`
const of = (...lists: readonly (readonly string[])[]) => socketsOf(lists.map((list) => () => list))

t.test('the kernel’s list tells who listens where, and which ports have connections', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const here = { first: port, last: port }
  const entries = await kernelSockets.listening()
  t.equal(listenerOf(entries, { address: '127.0.0.1', port }), process.getuid?.())
  t.equal(listenerOf(entries, { address: '127.0.0.2', port }), null)
  t.equal(await kernelSockets.hasConnection(here), false, 'a listener is none')
  const caller = connect(port, '127.0.0.1')
  t.teardown(() => caller.destroy())
  const [callee] = (await once(server, 'connection')) as [Socket]
  t.teardown(() => callee.destroy())
  t.equal(await kernelSockets.hasConnection(here), true)
  t.ok(
    (await kernelSockets.listening()).every(({ state }) => state === 'listening'),
    'connections are not listed',
  )
})

t.test('both families are read, and a listener on every address counts for each', async (t) => {
  const four = head + line('00000000:1F90', '0A', 1001)
  const six = head + line('000080FE000000000000000001000000:0050', '0A', 7)
  const entries = await of([four], [six]).listening()
  t.same(entries, [
    { address: '0.0.0.0', port: 8080, user: 1001, state: 'listening' },
    { address: 'fe80::1', port: 80, user: 7, state: 'listening' },
  ])
  t.equal(listenerOf(entries, { address: '10.0.0.1', port: 8080 }), 1001)
})

t.test('who asks for listeners reads no connection', async (t) => {
  let read = 0
  const list = function* (): Generator<string> {
    const text = head + line('00000000:1F90', '0A', 1) + line('00000000:1F91', '0A', 2)
    // Pieces end anywhere.
    for (const piece of [text.slice(0, 60), text.slice(60)]) yield piece
    for (; read < 1000; read++) yield line('0100007F:1F90', read % 2 === 0 ? '06' : '01', 3)
  }
  const found = await socketsOf([list, () => []]).listening()
  t.same(
    found.map(({ user }) => user),
    [1, 2],
  )
  t.equal(read, 0, 'the first connection ended the reading')
})

t.test(
  'a connection counts by its local port, unless it only waits for late packets',
  async (t) => {
    const ports = { first: 0x1f90, last: 0x1f91 }
    const has = (...lines: readonly string[]) => of([head, ...lines]).hasConnection(ports)
    t.equal(await has(line('0100007F:1F90', '0A', 1), line('0100007F:1F92', '01', 1)), false)
    t.equal(await has(line('0100007F:1F91', '06', 0)), false)
    t.equal(await has(line('0100007F:1F91', '01', 1)), true)
    t.equal(await has(line('0100007F:1F91', '04', 0)), true, 'one that is ending still passes')
    const six = line('00000000000000000000000001000000:1F90', '01', 1)
    t.equal(await of([head], [head, six]).hasConnection(ports), true)
    t.equal(await of([head.repeat(2)], []).hasConnection(ports), false)
  },
)
