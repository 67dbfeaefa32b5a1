/** Holds sockets that servers accept to reading like any other, by buffers of ours or without. */

import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test as Tap } from 'tap'
import { acceptIntoBuffers, readBufferOf } from '#agent/relay/accepted-sockets.ts'

type Test = { readonly teardown: (run: () => void) => void }

const settings = { highWaterMark: 65_536, backlog: 0 }
/** More than wait anywhere between two ends of a connection. */
const much = 16 * 2 ** 20
const pattern = Buffer.from(Uint32Array.from({ length: much / 4 }, (_, i) => i * 2654435761).buffer)

async function listen(t: Test): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  acceptIntoBuffers(server, settings)
  return server
}

async function accept(t: Test, server: Server): Promise<{ near: Socket; far: Socket }> {
  const accepted = once(server, 'connection')
  const far = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [near] = (await accepted) as [Socket]
  t.teardown(() => {
    near.destroy()
    far.destroy()
  })
  return { near, far }
}

t.test('an accepted socket that nobody took over is read as a stream', async (t) => {
  const { near, far } = await accept(t, await listen(t))
  const chunks: Buffer[] = []
  near.on('data', (chunk: Buffer) => void chunks.push(chunk))
  const ended = once(near, 'end')
  far.end(pattern)
  await ended
  t.ok(Buffer.concat(chunks).equals(pattern))
  near.end('answer')
  t.equal((await buffer(far)).toString(), 'answer', 'its own side was still open')
})

t.test('an accepted socket that nobody reads reads no more than it may hold', async (t) => {
  const { near, far } = await accept(t, await listen(t))
  t.notOk(far.write(pattern))
  while (near.readableLength < settings.highWaterMark) await turn()
  t.ok(near.readableLength <= settings.highWaterMark + 65_536)
  const got: Buffer[] = []
  for await (const chunk of near) {
    got.push(chunk as Buffer)
    if (got.reduce((sum, { length }) => sum + length, 0) === much) break
  }
  t.ok(Buffer.concat(got).equals(pattern))
})

t.test('many accepted sockets that bring much at once mix nothing up', async (t) => {
  const server = await listen(t)
  const sockets = 80
  const each = much / 32
  const pairs: { near: Socket; far: Socket }[] = []
  while (pairs.length < sockets) pairs.push(await accept(t, server))
  await Promise.all(
    pairs.map(async ({ near, far }, n) => {
      const chunks: Buffer[] = []
      const reads = readBufferOf(near)
      reads?.take({ push: (chunk) => chunks.push(chunk) > 0 })
      const sent = pattern.subarray(n * 1024, n * 1024 + each)
      const ended = once(near, 'end')
      far.end(sent)
      await ended
      reads?.release()
      t.ok(Buffer.concat(chunks).equals(sent), `socket ${n}`)
    }),
  )
})

/** Whether accepted sockets were told one by one to delay nothing, where the one that listens answered so. */
async function toldApart(t: Test & Pick<Tap, 'ok'>, answer: number): Promise<boolean> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { _handle: handle } = server as { readonly _handle?: { setNoDelay: () => number } }
  if (handle === undefined) throw new Error('a server that listens has a handle')
  handle.setNoDelay = () => answer
  acceptIntoBuffers(server, settings)
  // The first may have waited since before the option was there.
  const { near: first } = await accept(t, server)
  t.ok(isTold(first))
  const { near } = await accept(t, server)
  return isTold(near)
}

function isTold(near: Socket): boolean {
  let told = 0
  const { _handle: own } = near as { readonly _handle?: { setNoDelay: () => number } }
  if (own === undefined) throw new Error('an accepted socket has a handle')
  own.setNoDelay = () => told++
  // Node tells the kernel only what it has not told it before.
  near.setNoDelay(true)
  return told === 0
}

t.test('accepted sockets have it of the one that listens that nothing is delayed', async (t) => {
  t.equal(await toldApart(t, 0), false)
})

t.test('where the one that listens cannot be told, each accepted socket is', async (t) => {
  t.equal(await toldApart(t, -22), true)
})

t.test('a server whose handle is not as expected goes on as it is', async (t) => {
  acceptIntoBuffers({} as Server, settings)
  acceptIntoBuffers({ _handle: null } as unknown as Server, settings)
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { near, far } = await accept(t, server)
  t.equal(readBufferOf(near), undefined)
  far.write('x')
  t.equal(String(((await once(near, 'data')) as [Buffer])[0]), 'x')
})
