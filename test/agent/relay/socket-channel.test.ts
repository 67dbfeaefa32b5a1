import { connect } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import { HeldBytes } from '#agent/http2/held-bytes.ts'
import { SocketChannel } from '#agent/relay/socket-channel.ts'
import { RawServer } from '#test/support/raw-peer.ts'
import { RecordedSink } from '#test/support/recorded-channel.ts'
import { until } from '#test/support/until.ts'

async function pair(t: { readonly teardown: (run: () => void) => void }, held?: HeldBytes) {
  const server = await RawServer.listen()
  const options = { port: server.port, allowHalfOpen: true, highWaterMark: 262_144 }
  const socket = connect({ ...options, host: '127.0.0.1' })
  await once(socket, 'connect')
  t.teardown(() => {
    socket.destroy()
    server.stop()
  })
  const sink = new RecordedSink()
  const channel = new SocketChannel(socket, sink, held)
  return { socket, sink, channel, peer: await server.peer(0) }
}

t.test('small and large pieces arrive in the order they were written', async (t) => {
  const { channel, peer } = await pair(t)
  let expected = ''
  for (let i = 0; i < 50; i++) {
    const large = String(i % 10).repeat(20_000)
    channel.writeText(`<${i}>`)
    channel.write(Buffer.from(large))
    channel.write(Buffer.from('small'))
    expected += `<${i}>${large}small`
  }
  channel.end()
  t.ok((await peer.untilEnd()) === expected)
})

t.test('what is gathered, or the kernel has not taken, is said to wait', async (t) => {
  const { channel, peer } = await pair(t)
  channel.writeText('head')
  t.equal(channel.waitingBytes, 0)
  channel.write(Buffer.alloc(16_384))
  t.equal(channel.waitingBytes, 16_384)
  await peer.until(({ bytes }) => bytes === 16_388)
  t.equal(channel.waitingBytes, 0)
  peer.socket.pause()
  let written = 16_388
  while (channel.waitingBytes === 0) {
    channel.write(Buffer.alloc(8191))
    written += 8191
  }
  peer.socket.resume()
  await peer.until(({ bytes }) => bytes === written)
  await until('nothing waits', () => channel.waitingBytes === 0)
})

t.test('large pieces of a turn are written together', async (t) => {
  const { channel, socket } = await pair(t)
  let writes = 0
  const write = socket.write.bind(socket)
  socket.write = (...args: readonly unknown[]) => {
    writes++
    return Reflect.apply(write, null, args) as boolean
  }
  let corks = 0
  const cork = socket.cork.bind(socket)
  socket.cork = () => {
    corks++
    cork()
  }
  for (let i = 0; i < 10; i++) channel.write(Buffer.alloc(16_384))
  t.equal(writes, 0)
  await new Promise((resolve) => setImmediate(resolve))
  t.same([writes, corks], [10, 1])
})

t.test('pieces that lie side by side in memory go out as one', async (t) => {
  const { channel, socket, peer } = await pair(t)
  const sizes: number[] = []
  const write = socket.write.bind(socket)
  socket.write = (...args: readonly unknown[]) => {
    sizes.push((args[0] as Buffer).length)
    return Reflect.apply(write, null, args) as boolean
  }
  const memory = Buffer.alloc(65_536, 'abcdefg')
  const apart = Buffer.alloc(10_000, '-')
  for (const [from, to] of [
    [0, 16_384],
    [16_384, 32_768],
    [32_768, 40_000],
    [40_009, 65_536],
  ] as const) {
    channel.write(memory.subarray(from, to))
  }
  channel.write(apart)
  channel.end()
  t.same(sizes, [40_000, 25_527, 10_000])
  const whole = memory.toString('latin1')
  t.ok(
    (await peer.untilEnd()) === whole.slice(0, 40_000) + whole.slice(40_009) + '-'.repeat(10_000),
  )
})

t.test('write says when to wait, and onDrain when to go on', async (t) => {
  const { channel, sink, peer } = await pair(t)
  peer.socket.pause()
  const piece = Buffer.alloc(65_536)
  let written = 0
  while (channel.write(piece)) {
    written += piece.length
    if (written % (1 << 20) === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  peer.socket.resume()
  await sink.until(({ drains }) => drains > 0)
  t.ok(channel.write(piece))
})

t.test('onDrain also tells that everything before a goodbye is out', async (t) => {
  const { channel, sink, peer } = await pair(t)
  channel.writeText('bye')
  channel.end()
  await sink.until(({ drains }) => drains === 1)
  t.equal(await peer.untilEnd(), 'bye')
  channel.writeText('too late')
  t.notOk(channel.closed)
  peer.end()
  await sink.until(({ closed }) => closed === null)
  t.ok(channel.closed)
})

t.test('a goodbye to who has said its own closes at once, and loses nothing', async (t) => {
  const { channel, sink, socket, peer } = await pair(t)
  let halfCloses = 0
  socket.end = () => {
    halfCloses++
    return socket
  }
  const last = 'x'.repeat(100_000)
  peer.end()
  await sink.until(({ ended }) => ended)
  channel.writeText(last)
  channel.end()
  if (halfCloses === 0) {
    t.ok((await peer.untilEnd()) === last)
    await sink.until(({ closed }) => closed === null)
  } else t.ok(socket.writableLength > 0, 'only where the kernel did not take all of it')
})

t.test('abort resets; after a goodbye that is out it takes nothing back', async (t) => {
  const one = await pair(t)
  one.channel.writeText('x')
  await one.peer.until('x')
  one.channel.abort()
  one.channel.abort()
  t.ok(one.channel.closed)
  await one.peer.untilClosed()
  t.equal(one.peer.error, 'ECONNRESET')
  await one.sink.until(({ closed }) => closed === null)
  const two = await pair(t)
  two.peer.socket.pause()
  two.channel.write(Buffer.alloc(1 << 20))
  two.channel.end()
  await two.sink.until(({ drains }) => drains > 0)
  two.channel.abort()
  two.peer.socket.resume()
  await two.peer.untilEnd()
  t.equal(two.peer.bytes, 1 << 20)
  t.equal(two.peer.error, '')
})

t.test('a reset by the far side is told with its code, once', async (t) => {
  const { sink, peer } = await pair(t)
  peer.reset()
  await sink.until(({ closed }) => closed !== undefined)
  t.match(sink.closed, { code: 'ECONNRESET' })
})

t.test('a paused channel delivers nothing until it is resumed', async (t) => {
  const { channel, sink, peer } = await pair(t)
  channel.pause()
  channel.pause()
  peer.write('x'.repeat(100))
  peer.end()
  const other = await pair(t)
  other.peer.write('y')
  await other.sink.until(({ text }) => text === 'y')
  t.equal(sink.bytes, 0)
  t.notOk(sink.ended)
  channel.resume()
  await sink.until(({ ended }) => ended)
  t.equal(sink.bytes, 100)
})

t.test('what waits for slow readers is bounded across channels, and counted back', async (t) => {
  const held = new HeldBytes({ limitBytes: 400_000 })
  const piece = Buffer.alloc(65_536)
  /** Writes until the kernel takes no more. */
  const fill = ({ channel, socket }: Awaited<ReturnType<typeof pair>>): void => {
    while (socket.writableLength === 0 && !channel.closed) {
      channel.write(piece)
      channel.flush()
    }
  }
  const first = await pair(t, held)
  const second = await pair(t, held)
  first.peer.socket.pause()
  second.peer.socket.pause()
  fill(first)
  t.ok(held.bytes > 0 && held.bytes <= piece.length, `${held.bytes} bytes wait`)
  // The kernel takes the rest without a word, and so it would count for ever.
  const waited = held.bytes
  first.peer.socket.resume()
  await until('the first reader has all', () => first.socket.writableLength === 0)
  t.equal(held.bytes, waited, 'nobody was told')

  fill(second)
  let writes = 0
  for (; !second.channel.closed && writes < 20; writes++) {
    second.channel.write(piece)
    second.channel.flush()
  }
  t.equal(writes, 6, 'what the first no longer holds does not count against the second')
  await second.sink.until(({ closed }) => closed !== undefined)
  t.match(second.sink.closed, { code: 'ENOBUFS', message: /slow readers/ })
  t.equal(held.bytes, 0)
  first.channel.writeText('still here')
  t.equal(first.sink.closed, undefined)
})
