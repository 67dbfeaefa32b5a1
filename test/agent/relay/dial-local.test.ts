import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import type { Channel } from '#agent/platform.ts'
import { LocalDialler } from '#agent/relay/dial-local.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { freePort } from '#test/support/free-port.ts'
import { RawServer } from '#test/support/raw-peer.ts'
import { recordedOpen } from '#test/support/recorded-channel.ts'

const parts = { clock: systemClock, random: systemRandom }
const settings = { source: '127.0.0.6', timeoutMs: 1000 }

t.test('dial comes from an address that no service trusts as its local user', async (t) => {
  const server = await RawServer.listen()
  t.teardown(() => server.stop())
  const dialler = new LocalDialler(parts, settings)
  const opened = await recordedOpen((opener) => dialler.dial('127.0.0.1', server.port, opener))
  if (opened.kind !== 'open') throw new Error(opened.detail)
  const peer = await server.peer(0)
  t.equal(peer.socket.remoteAddress, '127.0.0.6')
  opened.channel.writeText('hello')
  await peer.until('hello')
  peer.write('there')
  await opened.sink.until(({ text }) => text === 'there')
  peer.end()
  await opened.sink.until(({ ended }) => ended)
  opened.channel.writeText(', still here')
  await peer.until('still here')
  opened.channel.end()
  await opened.sink.until(({ closed }) => closed === null)
})

t.test('dial takes a port that a connection to another service has', async (t) => {
  const port = await freePort()
  const ports = { first: port, last: port }
  const dialler = new LocalDialler(parts, { ...settings, ports })
  const comesFrom = async (server: RawServer, nth: number): Promise<number | undefined> => {
    const opened = await recordedOpen((opener) => dialler.dial('127.0.0.1', server.port, opener))
    if (opened.kind !== 'open') throw new Error(opened.detail)
    t.teardown(() => opened.channel.abort())
    const { socket } = await server.peer(nth)
    t.equal(socket.remoteAddress, '127.0.0.6')
    return socket.remotePort
  }
  const [one, other] = [await RawServer.listen(), await RawServer.listen()]
  for (const server of [one, other]) t.teardown(() => server.stop())
  t.equal(await comesFrom(one, 0), port)
  t.equal(await comesFrom(other, 0), port)
  t.not(await comesFrom(one, 1), port, 'the kernel finds one where all of ours are taken')
})

t.test('dial uses few ports again and again, and more only where they are in use', async (t) => {
  const server = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port: to } = server.address() as AddressInfo
  const ports = { first: 20_000, last: 29_999 }
  const dialler = new LocalDialler(parts, { ...settings, ports })
  const came = new Set<number | undefined>()
  server.on('connection', ({ remotePort }) => came.add(remotePort))
  const dial = async (): Promise<Channel> => {
    const opened = await recordedOpen((opener) => dialler.dial('127.0.0.1', to, opener))
    if (opened.kind !== 'open') throw new Error(opened.detail)
    return opened.channel
  }
  for (let dials = 0; dials < 1500; dials++) (await dial()).abort()
  t.ok(came.size <= 1024, `${came.size} ports are used, and the host's programs have the others`)
  came.clear()
  const channels: Channel[] = []
  while (channels.length < 1200) channels.push(await dial())
  t.equal(came.size, 1200)
  const found = [...came].filter((port) => Number(port) > ports.last).length
  t.ok(found < 100, `the kernel had to find ${found}`)
  for (const channel of channels) channel.abort()
})

t.test('dial leaves a port where somebody listens', async (t) => {
  const port = await freePort()
  const listening = createServer().listen(port, '0.0.0.0')
  await once(listening, 'listening')
  t.teardown(() => listening.close())
  const server = await RawServer.listen()
  t.teardown(() => server.stop())
  const dialler = new LocalDialler(parts, { ...settings, ports: { first: port, last: port } })
  const opened = await recordedOpen((opener) => dialler.dial('127.0.0.1', server.port, opener))
  if (opened.kind !== 'open') throw new Error(opened.detail)
  t.not((await server.peer(0)).socket.remotePort, port)
  opened.channel.abort()
})

t.test('dial names the instance that refused', async (t) => {
  const server = await RawServer.listen()
  const { port } = server
  server.stop()
  const dialler = new LocalDialler(parts, settings)
  const opened = await recordedOpen((opener) => dialler.dial('127.0.0.1', port, opener))
  t.match(opened, { kind: 'failed', reason: 'instance-refused' })
  t.match(opened.kind === 'failed' ? opened.detail : '', `127.0.0.1:${port} refused`)
})

t.test('dial does not take a pause of its own process for the silence of a service', async (t) => {
  const server = await RawServer.listen()
  t.teardown(() => server.stop())
  const dialler = new LocalDialler(parts, { ...settings, timeoutMs: 40 })
  const opening = recordedOpen((opener) => dialler.dial('127.0.0.1', server.port, opener))
  // The kernel makes the connection meanwhile.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
  const opened = await opening
  if (opened.kind !== 'open') throw new Error(opened.detail)
  opened.channel.abort()
})

t.test('dial gives up on each instance that does not answer, once, by one timer', async (t) => {
  const clock = new FakeClock()
  const dialler = new LocalDialler({ clock, random: systemRandom }, settings)
  let answers = 0
  const opener = {
    onOpen: () => void answers++,
    onOpenFailed: (reason: string) => {
      answers++
      t.equal(reason, 'instance-refused')
    },
  }
  // TEST-NET-1 (RFC 5737): nobody is there, and at once or never is all the same here.
  dialler.dial('192.0.2.1', 9, opener)
  dialler.dial('192.0.2.1', 9, opener)
  t.equal(clock.pending, 1)
  await clock.advance(1250)
  t.equal(answers, 2)
  t.equal(clock.pending, 0)
  dialler.dial('192.0.2.1', 9, opener)
  await clock.advance(1250)
  t.equal(answers, 3, 'the next is watched again')
})
