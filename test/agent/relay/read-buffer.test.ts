import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { ReadBuffer } from '#agent/relay/read-buffer.ts'
import { RawServer } from '#test/support/raw-peer.ts'

type Test = { readonly teardown: (run: () => void) => void }

/** A socket that reads by a buffer, and the peer at its far end. */
async function pair(t: Test, server: RawServer) {
  const chunks: Buffer[] = []
  const reads = new ReadBuffer()
  const socket = connect({ host: '127.0.0.1', port: server.port, onread: reads.onread })
  reads.take({
    push: (chunk) => {
      chunks.push(chunk)
      return socket.emit('chunk') || true
    },
  })
  t.teardown(() => socket.destroy())
  const index = server.peers.length
  await once(socket, 'connect')
  const peer = await server.peer(index)
  const bytes = () => chunks.reduce((sum, { length }) => sum + length, 0)
  const until = async (count: number): Promise<Buffer> => {
    while (bytes() < count) await once(socket, 'chunk')
    return Buffer.concat(chunks)
  }
  return { socket, peer, chunks, until }
}

/** Bytes of which no two places close to each other look alike. */
const pattern = (length: number, seed: number) =>
  Buffer.from(
    Uint32Array.from({ length: length / 4 }, (_, i) => Math.imul(i + seed, 0x9e3779b1)).buffer,
  )

t.test('what a ReadBuffer hands over is never written to again', async (t) => {
  const server = await RawServer.listen()
  t.teardown(() => server.stop())
  const one = await pair(t, server)
  const two = await pair(t, server)
  for (let i = 0; i < 50; i++) {
    // Small messages of both sockets in turn, then some that do not fit a read.
    const size = i % 10 === 9 ? 400_000 : 1000 * (i % 10) + 4
    one.peer.socket.write(pattern(size, i))
    two.peer.socket.write(pattern(size, i + 1000))
  }
  const expected = (from: number) =>
    Buffer.concat(
      Array.from({ length: 50 }, (_, i) =>
        pattern(i % 10 === 9 ? 400_000 : 1000 * (i % 10) + 4, i + from),
      ),
    )
  const [first, second] = [expected(0), expected(1000)]
  t.ok((await one.until(first.length)).equals(first))
  t.ok((await two.until(second.length)).equals(second))
  const held = [...one.chunks, ...two.chunks]
  t.ok(
    held.some(({ length }) => length >= 32_768),
    'some reads were large',
  )
  for (const chunk of held.filter(({ length }) => length < 32_768)) {
    t.ok(chunk.buffer.byteLength <= 65_536, 'a small chunk keeps no large memory alive')
  }
})

t.test('a socket that reads by a ReadBuffer can pause, half-close and end', async (t) => {
  const server = await RawServer.listen()
  t.teardown(() => server.stop())
  const { socket, peer, chunks, until } = await pair(t, server)
  peer.write('a')
  await until(1)
  socket.pause()
  peer.write('b')
  // A round trip the other way: had it been reading, the byte would be here.
  socket.write('ping')
  await peer.until('ping')
  t.equal(Buffer.concat(chunks).toString(), 'a')
  socket.resume()
  t.equal((await until(2)).toString(), 'ab')
  peer.end()
  await once(socket, 'end')
})
