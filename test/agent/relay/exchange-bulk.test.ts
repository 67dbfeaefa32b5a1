import { createHash } from 'node:crypto'
import t from 'tap'
import { RawServer, type RawPeer } from '#test/support/raw-peer.ts'
import { RelayRig, type RigSettings } from '#test/support/relay-rig.ts'

type Test = Parameters<typeof RelayRig.start>[0]

const size = 20 * 1024 * 1024
const megabyte = Buffer.alloc(1024 * 1024)
for (let i = 0; i < megabyte.length; i++) megabyte[i] = (i * 31 + (i >> 8)) & 0xff

async function rigWith(t: Test, settings: Partial<RigSettings> = {}) {
  const service = await RawServer.listen()
  t.teardown(() => service.stop())
  const rig = await RelayRig.start(t, { upstreams: [{ port: service.port }], ...settings })
  return { service, rig }
}

/** Writes 20 MiB, waiting where it must; `frame` goes around each megabyte. */
async function pour(peer: RawPeer, frame: (piece: Buffer) => readonly (string | Buffer)[]) {
  for (let i = 0; i < size / megabyte.length; i++) {
    let fits = true
    for (const piece of frame(megabyte)) fits = peer.socket.write(piece)
    if (!fits) await new Promise((resolve) => peer.socket.once('drain', resolve))
  }
}

const plain = (piece: Buffer) => [piece]
const chunk = (piece: Buffer) => [`${piece.length.toString(16)}\r\n`, piece, '\r\n']

/** What has arrived behind the head, chunks taken apart, as a digest. */
function digest(text: string, chunked: boolean): string {
  const body = text.slice(text.indexOf('\r\n\r\n') + 4)
  const hash = createHash('sha256')
  if (!chunked) return hash.update(body, 'latin1').digest('hex')
  for (let at = 0; ;) {
    const end = body.indexOf('\r\n', at)
    const length = Number.parseInt(body.slice(at, end), 16)
    if (length === 0) return hash.digest('hex')
    hash.update(body.slice(end + 2, end + 2 + length), 'latin1')
    at = end + 2 + length + 2
  }
}

const expected = (() => {
  const hash = createHash('sha256')
  for (let i = 0; i < size / megabyte.length; i++) hash.update(megabyte)
  return hash.digest('hex')
})()

for (const chunked of [false, true]) {
  const framing = chunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${size}`
  const how = chunked ? 'in chunks' : 'by length'
  const last = chunked ? '0\r\n\r\n' : ''
  const whole = (peer: RawPeer) =>
    chunked ? peer.text.endsWith('\r\n0\r\n\r\n') : peer.bytes > size

  t.test(`20 MiB go up ${how}, intact`, async (t) => {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(`POST / HTTP/1.1\r\nHost: orders\r\n${framing}\r\n\r\n`)
    const peer = await service.peer(0)
    await pour(caller, chunked ? chunk : plain)
    caller.write(last)
    await peer.until((one) => one.bytes > size && whole(one))
    t.equal(digest(peer.text, chunked), expected)
    peer.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    await caller.until('200 OK')
    t.match(await rig.recorded(1), { reason: 'ok' })
    t.ok((rig.outcomes[0]?.bytesFromCaller ?? 0) >= size)
  })

  t.test(`20 MiB come down ${how}, intact`, async (t) => {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call('GET / HTTP/1.1\r\nHost: orders\r\n\r\n')
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    peer.write(`HTTP/1.1 200 OK\r\n${framing}\r\n\r\n`)
    await pour(peer, chunked ? chunk : plain)
    peer.write(last)
    await caller.until((one) => one.bytes > size && whole(one))
    t.equal(digest(caller.text, chunked), expected)
    await rig.until(() => rig.upstreams[0]?.pool.idle === 1)
  })
}

/** Writes until the far side takes no more: on a slow machine perhaps too early, never too late. */
async function stuff(peer: RawPeer): Promise<number> {
  let written = 0
  for (;;) {
    if (written > 512 * 1024 * 1024) return written
    written += megabyte.length
    if (peer.socket.write(megabyte)) continue
    const drained = new Promise<boolean>((resolve) => {
      peer.socket.once('drain', () => resolve(true))
    })
    const still = new Promise<boolean>((resolve) => {
      setTimeout(() => resolve(false), 200)
    })
    if (!(await Promise.race([drained, still]))) return written
  }
}

t.test('a caller that does not read holds the service up, not the memory', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call('GET / HTTP/1.1\r\nHost: orders\r\n\r\n')
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  caller.socket.pause()
  const total = 64 * 1024 * 1024
  peer.write(`HTTP/1.1 200 OK\r\nContent-Length: ${total}\r\n\r\n`)
  const written = await stuff(peer)
  t.ok(written < total, `${written} bytes were taken`)
  caller.socket.resume()
  const left = total - written
  for (let i = 0; i < left / megabyte.length; i++) peer.write(megabyte)
  await caller.until((one) => one.bytes > total)
  await rig.until(() => rig.upstreams[0]?.pool.idle === 1)
  t.match(await rig.recorded(1), { reason: 'ok' })
})

t.test('a service that does not read holds the caller up, not the memory', async (t) => {
  const { service, rig } = await rigWith(t)
  const total = 64 * 1024 * 1024
  const caller = await rig.call(
    `POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: ${total}\r\n\r\n`,
  )
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  peer.socket.pause()
  const written = await stuff(caller)
  t.ok(written < total, `${written} bytes were taken`)
  peer.socket.resume()
  const left = total - written
  for (let i = 0; i < left / megabyte.length; i++) caller.write(megabyte)
  await peer.until((one) => one.bytes > total)
  peer.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
  await caller.until('200 OK')
})

t.test('a slow reader gets the whole of a last response', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call('GET / HTTP/1.0\r\n\r\n')
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  caller.socket.pause()
  const total = 2 * megabyte.length
  peer.write(`HTTP/1.1 200 OK\r\nContent-Length: ${total}\r\n\r\n`)
  peer.write(megabyte)
  peer.write(megabyte)
  await rig.recorded(1)
  caller.end()
  caller.socket.resume()
  await caller.untilClosed()
  t.equal(caller.error, '')
  t.ok(caller.bytes > total)
})

t.test('one-byte chunks are not one write each', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call('GET / HTTP/1.1\r\nHost: orders\r\n\r\n')
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  const count = 20_000
  peer.write(
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(count)}0\r\n\r\n`,
  )
  await caller.until('0\r\n\r\n')
  const chunks = caller.text.split('\r\n\r\n')[1] ?? ''
  t.ok(chunks.length < count + 200, `${chunks.length} bytes for ${count}`)
})
