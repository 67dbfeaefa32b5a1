import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import t from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { freePort } from '#test/support/free-port.ts'
import {
  Listeners,
  type DesiredListener,
  type ListenersSettings,
} from '#agent/outbound/listeners.ts'

const logger = createLogger({ name: 'test', level: 'silent' })

// The clock's timers keep no process alive.
const alive = setInterval(() => {}, 60_000)
t.teardown(() => clearInterval(alive))

/** Listeners that let a test wait for what they report. */
function start(
  settings: ListenersSettings = {},
  openBeside: () => number = () => 0,
): {
  listeners: Listeners
  until: (done: () => boolean) => Promise<void>
} {
  let wake = (): void => {}
  const listeners = new Listeners(
    {
      clock: systemClock,
      random: systemRandom,
      logger,
      onChange: () => wake(),
      onFailed: () => {},
      openBeside,
    },
    settings,
  )
  const until = async (done: () => boolean): Promise<void> => {
    while (!done()) await new Promise<void>((resolve) => (wake = resolve))
  }
  return { listeners, until }
}

function desired(name: string, port: number, accept: (socket: Socket) => void): DesiredListener {
  const refuse = (socket: Socket): void => void socket.end('one too many')
  return { name, address: '127.0.0.1', port, accept, refuse }
}

t.test('Listeners opens what is desired and keeps connections of what is not', async (t) => {
  const { listeners, until } = start()
  const accepted = Promise.withResolvers<Socket>()
  listeners.apply([desired('a', 0, accepted.resolve)])
  await until(() => listeners.states[0]?.problem === '')
  const port = listeners.states[0]?.port ?? 0
  const client = connect(port, '127.0.0.1')
  const server = await accepted.promise
  t.equal(listeners.openConnections, 1)
  listeners.apply([])
  t.same(listeners.states, [])
  server.write('still here')
  const [chunk] = (await once(client, 'data')) as [Buffer]
  t.equal(chunk.toString(), 'still here')
  const refused = connect(port, '127.0.0.1')
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNREFUSED')
  client.destroy()
  server.destroy()
})

t.test(
  'Listeners names the cause when a port is taken, and opens it once it is free',
  async (t) => {
    const { listeners, until } = start()
    const squatter = createServer().listen(0, '127.0.0.1')
    await once(squatter, 'listening')
    const { port } = squatter.address() as AddressInfo
    listeners.apply([desired('a', port, (socket) => socket.destroy())])
    await until(() => listeners.states[0]?.problem.includes('in use by another program') ?? false)
    t.match(listeners.states, [{ name: 'a', address: '127.0.0.1', port }])
    squatter.close()
    await until(() => listeners.states[0]?.problem === '')
    listeners.stop()
  },
)

t.test('Listeners gives a port to who asked first, and shows the other one why not', async (t) => {
  const { listeners, until } = start()
  const port = await freePort()
  const firsts = Promise.withResolvers<Socket>()
  const wishes = [
    desired('forward proxy', port, firsts.resolve),
    desired('orders (web.json)', port, (socket) => socket.destroy()),
  ]
  listeners.apply(wishes)
  await until(() => listeners.states[0]?.problem === '')
  t.match(listeners.states, [
    { name: 'forward proxy', problem: '' },
    { name: 'orders (web.json)', port, problem: /is taken by forward proxy/ },
  ])
  const client = connect(port, '127.0.0.1')
  const socket = await firsts.promise
  client.destroy()
  socket.destroy()
  listeners.apply(wishes.slice(1))
  t.match(listeners.states, [{ name: 'orders (web.json)', problem: '' }], 'now it is theirs')
  listeners.stop()
})

t.test('Listeners refuses the connection that is one too many of all of them', async (t) => {
  const { listeners, until } = start({ maxConnections: 2 })
  const sockets: Socket[] = []
  const take = (socket: Socket): void => void sockets.push(socket)
  listeners.apply([
    { ...desired('a', 0, take), address: '127.0.0.1' },
    { ...desired('b', 0, take), address: '127.0.0.2' },
  ])
  await until(() => listeners.states.every(({ problem }) => problem === ''))
  const dial = (n: number): Socket => {
    const state = listeners.states[n]
    const socket = connect(state?.port ?? 0, state?.address)
    t.teardown(() => socket.destroy())
    return socket.on('error', () => {})
  }
  await Promise.all([0, 1].map((n) => once(dial(n), 'connect')))
  for (const n of [0, 1]) t.equal(String((await once(dial(n), 'data'))[0]), 'one too many')
  t.equal(listeners.openConnections, 2)
  const [first] = sockets
  first?.destroy()
  if (first !== undefined) await once(first, 'close')
  const next = dial(1)
  await once(next, 'connect')
  next.destroy()
  listeners.stop()
})

t.test('Listeners counts the connections of those beside it as its own', async (t) => {
  const first = start({ maxConnections: 2 }, () => other.listeners.openConnections)
  const other = start({ maxConnections: 2 }, () => first.listeners.openConnections)
  const both = [first, other]
  const taken: Socket[] = []
  for (const { listeners, until } of both) {
    listeners.apply([desired('a', 0, (socket) => void taken.push(socket))])
    await until(() => listeners.states[0]?.problem === '')
  }
  const dial = async ({ listeners }: { readonly listeners: Listeners }): Promise<Socket> => {
    const socket = connect(listeners.states[0]?.port ?? 0, '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.on('error', () => {})
    await once(socket, 'connect')
    return socket
  }
  for (const one of both) await dial(one)
  for (const one of both) {
    t.equal(String((await once(await dial(one), 'data'))[0]), 'one too many')
    t.equal(one.listeners.openConnections, 1)
  }
  for (const socket of taken) socket.destroy()
  for (const { listeners } of both) listeners.stop()
})

t.test('Listeners of several workers take the same port', async (t) => {
  const [one, other] = [start({ reusePort: true }), start({ reusePort: true })]
  const destroy = (socket: Socket): void => void socket.destroy()
  one.listeners.apply([desired('a', 0, destroy)])
  await one.until(() => one.listeners.states[0]?.problem === '')
  const port = one.listeners.states[0]?.port ?? 0
  other.listeners.apply([desired('a', port, destroy)])
  await other.until(() => other.listeners.states[0]?.problem === '')
  t.equal(other.listeners.states[0]?.port, port)
  for (const { listeners } of [one, other]) listeners.stop()
})
